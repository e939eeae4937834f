"""A user-defined model, built by a function in a file or package."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from edgeai.core.config.problems import nearest
from edgeai.core.errors import EdgeAIError, UsageError

_HINT = "write model.path as file.py:function or package.module:function"
_CALL = "it is called with sample_shape, num_classes and model.options: def build(sample_shape, num_classes): ..."


def custom(path: str, options: Mapping[str, Any], shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Call the user's function, and check its model on two samples of zeros.

    Args:
        path: "file.py:function" or "package.module:function".
        options: Further keyword arguments of the function.
        shape: Shape of a sample.
        num_classes: Number of outputs.

    Raises:
        UsageError: The function does not exist, or does not return an nn.Sequential that fits these samples.
        EdgeAIError: The user's code fails.
    """
    function = _find(path)
    arguments = {"sample_shape": tuple(shape), "num_classes": num_classes, **options}
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise UsageError(f"model.path: {path}: {error}", hint=_CALL) from None
    try:
        model = function(**arguments)
    except Exception as error:
        raise _failed(path, error) from error
    if not isinstance(model, nn.Sequential):
        raise UsageError(
            f"model.path: {path} returned {type(model).__name__}, not torch.nn.Sequential",
            hint="return the layers in order: nn.Sequential(OrderedDict(conv1=..., out=...))",
        )
    _try(path, model, shape, num_classes)
    return model


def _find(path: str) -> Callable[..., Any]:
    place, colon, name = path.rpartition(":")
    if not colon or not place or not name:
        raise UsageError(f'model.path: "{path}" does not name a function', hint=_HINT)
    module = _module(place)
    found = getattr(module, name, None)
    if not callable(found):
        near = nearest(name, [item for item in vars(module) if not item.startswith("_")])
        hint = f'did you mean "{near}"? {_HINT}' if near else _HINT
        raise UsageError(f'model.path: no function "{name}" in {place}', hint=hint)
    return found


def _module(place: str) -> ModuleType:
    """Import a module of a package, or execute a file."""
    if not place.endswith(".py"):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise UsageError(f"model.path: cannot import {place}: {error}", hint=_HINT) from None
        except Exception as error:
            raise _failed(place, error) from error
    file = Path(place)
    spec = importlib.util.spec_from_file_location(f"edgeai_user_{file.stem}", file) if file.is_file() else None
    if spec is None or spec.loader is None:
        raise UsageError(f"model.path: no file {file}", hint=_HINT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _failed(place, error) from error
    return module


def _try(path: str, model: nn.Sequential, shape: Sequence[int], num_classes: int) -> None:
    """Run the model once, on numbers or, if that fails, on tokens."""
    was_training = model.training
    model.eval()  # leaves running statistics and random state unchanged
    try:
        scores = _scores(path, model, shape)
    finally:
        model.train(was_training)
    if scores.ndim < 2 or scores.shape[0] != 2 or scores.shape[-1] != num_classes:
        raise UsageError(
            f"model.path: {path} returns {list(scores.shape)} for 2 samples, expected [2, {num_classes}]",
            hint="the last layer needs one output per class",
        )


def _scores(path: str, model: nn.Sequential, shape: Sequence[int]) -> Tensor:
    weight = next(model.parameters(), None)
    device = weight.device if weight is not None else torch.device("cpu")
    with torch.no_grad():
        try:
            scores: Tensor = model(torch.zeros(2, *shape, device=device))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            try:
                scores = model(torch.zeros(2, *shape, dtype=torch.int64, device=device))
            except (RuntimeError, ValueError, TypeError, IndexError):
                reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
                raise UsageError(
                    f"model.path: {path} does not run on samples of shape {list(shape)}: {reason}",
                    hint="build the layers for the sample_shape and num_classes that the function receives",
                ) from None
    return scores


def _failed(where: str, error: Exception) -> EdgeAIError:
    """Return the user's error as one line, with file and line number."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}: " if len(frames) > 1 else ""
    return EdgeAIError(f"model.path: {where} failed: {place}{type(error).__name__}: {error}", hint="fix it there")
