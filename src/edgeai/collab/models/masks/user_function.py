"""Masks from a user-defined Python function.

Shapes: C classes, N masks, H x W pixels.
"""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from edgeai.collab.models.masks.source import Mask
from edgeai.core.errors import EdgeAIError, UsageError


class FunctionMaskSource:
    """Calls a user-defined function.

    Args:
        function: `propose(image [H,W,3] uint8, probs [C,H,W] float32)`; returns masks [N,H,W] bool, or a pair of masks
            and their predicted IoUs [N].
        where: File and name of the function, for error messages.
    """

    def __init__(self, function: Callable[[np.ndarray, np.ndarray], Any], where: str) -> None:
        self.function = function
        self.where = where

    def propose(self, image: np.ndarray, logits: Tensor) -> list[Mask]:
        """Return the function's masks.

        Raises:
            EdgeAIError: The function failed, or its result is not a set of masks of this frame.
        """
        probs = logits.detach().softmax(0).cpu().numpy()
        try:
            result = self.function(image.copy(), probs)  # a copy, so that the function cannot change the frame
        except Exception as error:
            line = traceback.extract_tb(error.__traceback__)[-1]
            raise EdgeAIError(
                f"{self.where} failed: {type(error).__name__}: {error}", hint=f"look at {line.filename}:{line.lineno}"
            ) from error
        masks, ious = result if isinstance(result, tuple) else (result, None)
        masks = np.asarray(masks)
        if masks.size == 0:
            return []
        if masks.dtype != bool or masks.ndim != 3 or masks.shape[1:] != image.shape[:2]:
            raise EdgeAIError(
                f"{self.where} returned {masks.dtype} {list(masks.shape)}, not bool {['N', *image.shape[:2]]}",
                hint="return one boolean map for each mask",
            )
        ious = np.ones(len(masks)) if ious is None else np.asarray(ious, dtype=float)
        if ious.shape != (len(masks),):
            raise EdgeAIError(
                f"{self.where} returned {len(masks)} masks, but IoUs of shape {list(ious.shape)}",
                hint="return one predicted IoU for each mask",
            )
        return [Mask(mask, float(iou)) for mask, iou in zip(masks, ious, strict=True)]


def load_function(path: Path, name: str) -> Callable[..., Any]:
    """Run a Python file and return one of its functions.

    Raises:
        UsageError: The file or function does not exist, or the file fails.
    """
    spec = importlib.util.spec_from_file_location(f"edgeai_user_{path.stem}", path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise UsageError(f"no Python file at {path}", hint="give the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{path} failed: {type(error).__name__}: {error}", hint=f"try: python {path}") from error
    function = vars(module).get(name)
    if not callable(function):
        raise UsageError(f"{path} has no function {name}", hint=f"define it: def {name}(image, probs)")
    return function
