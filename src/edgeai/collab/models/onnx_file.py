"""Models in ONNX files, run by onnxruntime.

Shapes: B images, C stream classes, M model classes, H x W frame pixels; h, w: the net's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgeai.collab.models.class_map import ClassMap
from edgeai.collab.models.inputs import InputFormat, stack_images
from edgeai.collab.models.torch_model import frame_logits, pool_probs, score_tensor
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.files import sha256_of

FROZEN_ONNX = "an ONNX file has no trainable weights; export the model as TorchScript to adapt it"


class OnnxModel:
    """An ONNX session as a `SegModel`; it runs on the CPU and cannot be trained.

    Args:
        session: Session from `open_session`.
        path: Path of the ONNX file.
        classes: Classes of the stream.
        class_map: Mapping from the net's outputs to the stream's classes.
        input_format: Conversion of frames to the net's input.
    """

    trainable: nn.Module | None = None
    frozen_reason: str = FROZEN_ONNX

    def __init__(
        self, session: Any, path: Path, *, classes: tuple[str, ...], class_map: ClassMap, input_format: InputFormat
    ) -> None:
        self.session = session
        self.path = path
        self.classes = classes
        self.class_map = class_map
        self.input_format = input_format
        self.digest = sha256_of(path)[:16]

    def logits(self, image: np.ndarray) -> Tensor:
        """Return class logits [C,H,W] at frame size."""
        return self.features(image)[0]

    def features(self, image: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return class logits [C,H,W] and pooled features [F] of one image."""
        logits, pooled = self.forward_batch(stack_images([image], "cpu"))
        return logits[0], pooled[0]

    def forward_batch(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits [B,C,H,W] and pooled features [B,F], image by image: many files fix the batch size."""
        x = self.input_format.tensor(images.cpu()).numpy()
        raw = torch.cat([run_session(self.session, x[i : i + 1], str(self.path)) for i in range(len(x))])
        logits = frame_logits(raw, self.class_map, (images.shape[1], images.shape[2]))
        return logits, pool_probs(logits)


def open_session(path: Path) -> Any:
    """Open an ONNX file with one image input.

    Raises:
        EdgeAIError: onnxruntime is not installed.
        UsageError: The file does not exist, or is not an ONNX model with one input.
    """
    try:
        import onnxruntime
    except ImportError:
        raise EdgeAIError("ONNX models need onnxruntime", hint="install it: pip install 'edgeai[vision]'") from None
    if not path.is_file():
        raise UsageError(f"no model at {path}", hint="give an .onnx file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors are raised as exceptions; warnings are not useful here
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exception types have no common base below Exception
        raise UsageError(f"{path} is not an ONNX model: {str(error).splitlines()[0]}", hint="export it again") from None
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise UsageError(
            f"{path} has inputs of shapes {[i.shape for i in inputs]}, not one [images, 3, height, width]",
            hint="export the net with one image input",
        )
    return session


def fixed_size(session: Any) -> tuple[int, int] | None:
    """Return the fixed height and width of the input; None if they are dynamic."""
    height, width = session.get_inputs()[0].shape[2:]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def run_session(session: Any, x: np.ndarray, where: str) -> Tensor:
    """Return the class scores [B,M,h,w] of one input [B,3,h,w] float32."""
    output = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(x, dtype=np.float32)})[0]
    return score_tensor(torch.from_numpy(output), where)
