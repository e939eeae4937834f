"""Copies and digests of state dicts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def copy_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a copy of a state dict on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def state_digest(state: Mapping[str, Tensor]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 over the names and bytes of a state dict.

    Saved weights contain their digest.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
