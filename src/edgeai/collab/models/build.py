"""Build the segmentation models of the edge and of the cloud's semantics."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import nn

from edgeai.collab.config.models import (
    EdgeCopy,
    HfModel,
    InputConfig,
    OnnxFileModel,
    SemanticsConfig,
    StreetNetModel,
    TorchFileModel,
)
from edgeai.collab.models.checkpoint import load_model, shipped_checkpoint
from edgeai.collab.models.class_map import ClassMap, build_class_map
from edgeai.collab.models.inputs import InputFormat
from edgeai.collab.models.seg_model import SegModel
from edgeai.collab.models.street_net import StreetNet, StreetNetShape
from edgeai.collab.models.torch_model import TorchModel
from edgeai.core.errors import UsageError

ModelConfig: TypeAlias = StreetNetModel | TorchFileModel | OnnxFileModel | HfModel


def build_model(
    config: ModelConfig, classes: Sequence[str], device: str, *, size_px: tuple[int, int] = (128, 192)
) -> SegModel:
    """Return the model that a config describes, with the stream's classes as outputs.

    The model is run once, so that an unsuitable net is rejected here and not at the first frame.

    Args:
        config: Config of the model.
        classes: Classes of the stream.
        device: Torch device; ONNX files run on the CPU.
        size_px: Height and width of the stream's frames.

    Raises:
        UsageError: The model is missing, does not run on such frames, or its classes do not match.
        EdgeAIError: A required package is missing.
    """
    if isinstance(config, StreetNetModel):
        return _street_net(config, tuple(classes), device)
    if isinstance(config, OnnxFileModel):
        return _onnx_file(config, tuple(classes), size_px)
    names: Sequence[str]
    if isinstance(config, TorchFileModel):
        from edgeai.collab.models.torch_file import load_torch_file

        net: nn.Module
        net, frozen_reason = load_torch_file(config.path, device)
        names, where = config.classes, str(config.path)
    else:
        from edgeai.collab.models.hf import load_hf

        net, names = load_hf(config.model, device)
        frozen_reason, where = "", config.model
    form = _input_format(config.input, None)
    num_outputs = _probe(net, form, size_px, device, where)
    class_map = build_class_map(names, num_outputs, classes, config.class_map, where=where)
    return TorchModel(
        net,
        classes=tuple(classes),
        class_map=class_map,
        input_format=form,
        device=device,
        frozen_reason=frozen_reason,
    )


def build_semantics(
    config: SemanticsConfig, edge: SegModel, classes: Sequence[str], device: str, *, size_px: tuple[int, int]
) -> SegModel:
    """Return the cloud's semantic model: a separate net, or a copy of the current edge model.

    Raises:
        UsageError: As `build_model`.
        EdgeAIError: As `build_model`.
    """
    if isinstance(config, EdgeCopy):
        return copy.deepcopy(edge) if edge.trainable is not None else edge  # a frozen model never changes
    return build_model(config, classes, device, size_px=size_px)


def fresh_street_net(classes: tuple[str, ...], device: str, seed: int) -> TorchModel:
    """Return a very small untrained street net, reproducible by its seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = StreetNet(StreetNetShape(len(classes), width=16, depth=1)).eval().to(device)
    identity = ClassMap([(place,) for place in range(len(classes))], len(classes))
    return TorchModel(net, classes=classes, class_map=identity, input_format=InputFormat(), device=device)


def _street_net(config: StreetNetModel, classes: tuple[str, ...], device: str) -> TorchModel:
    if isinstance(config.weights, str):
        path = shipped_checkpoint(f"street-{config.weights}", config.weights)
    else:
        path = config.weights
    model = load_model(path, device)
    where = f"the street net in {path}"
    own = len(model.classes)
    model.class_map = build_class_map(model.classes, own, classes, config.class_map, where=where)
    model.classes = classes
    return model


def _onnx_file(config: OnnxFileModel, classes: tuple[str, ...], size_px: tuple[int, int]) -> SegModel:
    from edgeai.collab.models.onnx_file import OnnxModel, fixed_size, open_session, run_session

    session = open_session(config.path)
    form = _input_format(config.input, fixed_size(session))
    x = form.tensor(torch.zeros(1, *size_px, 3, dtype=torch.uint8)).numpy()
    try:
        num_outputs = run_session(session, x, str(config.path)).shape[1]
    except RuntimeError as error:  # onnxruntime raises RuntimeErrors
        raise _does_not_run(str(config.path), size_px, error) from None
    class_map = build_class_map(config.classes, num_outputs, classes, config.class_map, where=str(config.path))
    return OnnxModel(session, config.path, classes=classes, class_map=class_map, input_format=form)


def _probe(net: nn.Module, form: InputFormat, size_px: tuple[int, int], device: str, where: str) -> int:
    """Return the number of outputs of a net, from one black frame."""
    x = form.tensor(torch.zeros(1, *size_px, 3, dtype=torch.uint8, device=device))
    try:
        with torch.no_grad():
            scores, _ = net(x)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise _does_not_run(where, form.size_px or size_px, error) from None
    return int(scores.shape[1])


def _does_not_run(where: str, size_px: tuple[int, int], error: Exception) -> UsageError:
    lines = [line for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
    return UsageError(
        f"{where} does not run on an image of {size_px[0]}x{size_px[1]} px: {lines[-1]}",
        hint="set its input size: input.size_px: [height, width]",
    )


def _input_format(config: InputConfig, fixed_px: tuple[int, int] | None) -> InputFormat:
    return InputFormat(config.mean, config.std, config.order, config.size_px or fixed_px)
