"""The check that a checkpoint holds exactly the tensors of its model: transformers fills missing ones with noise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgeai.core.errors import EdgeAIError

HINT = "the checkpoint is incomplete, or its config is another model's; get the model again"
_MAX_NAMES = 3


def check_tensors(found: Mapping[str, Sequence[int]], wanted: Mapping[str, Sequence[int]], name: str) -> None:
    """Check names and shapes of a checkpoint's tensors.

    Args:
        found: Shapes in the checkpoint.
        wanted: Shapes in the model.
        name: Name of the model in messages.

    Raises:
        EdgeAIError: Tensors are missing, have the wrong shape, or have no place in the model.
    """
    _refuse_names(set(wanted) - set(found), set(found) - set(wanted), name)
    for tensor, shape in sorted(wanted.items()):
        if tensor in found and tuple(found[tensor]) != tuple(shape):
            raise _wrong_shape(name, tensor, found[tensor], shape)


def check_loading_info(info: Mapping[str, Any], name: str) -> None:
    """Check what transformers reports about the tensors that it loaded.

    Raises:
        EdgeAIError: Tensors are missing, have the wrong shape, or have no place in the model.
    """
    _refuse_names(info["missing_keys"], info["unexpected_keys"], name)
    if info["mismatched_keys"]:
        raise _wrong_shape(name, *sorted(info["mismatched_keys"])[0])
    if info["error_msgs"]:
        raise EdgeAIError(f"cannot load the weights of '{name}': {str(info['error_msgs'][0]).splitlines()[0]}")


def _wrong_shape(name: str, tensor: str, have: Sequence[int], want: Sequence[int]) -> EdgeAIError:
    return EdgeAIError(f"'{name}': the tensor {tensor} has the shape {list(have)}, not {list(want)}", hint=HINT)


def _refuse_names(missing: Iterable[str], unexpected: Iterable[str], name: str) -> None:
    missing = sorted(missing)
    unexpected = sorted(tensor for tensor in unexpected if not tensor.endswith("rotary_emb.inv_freq"))
    if missing:
        raise EdgeAIError(f"'{name}' lacks {_listed(missing)}", hint=HINT)
    if unexpected:
        raise EdgeAIError(f"'{name}' has {_listed(unexpected)}, for which its config has no place", hint=HINT)


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return f"the tensor{'s' if len(names) > 1 else ''} {', '.join(names[:_MAX_NAMES])}{rest}"
