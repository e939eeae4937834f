"""The state of a run after its last whole round, in one file that is whole or absent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from edgeai.core.errors import UsageError

_NAME = "state.pt"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Writes the state beside the old one and puts it in its place."""
    part = folder / f".{_NAME}.{os.getpid()}.part"
    try:
        torch.save(state, part)
        part.replace(folder / _NAME)
    finally:
        part.unlink(missing_ok=True)


def load_state(folder: Path) -> dict[str, Any]:
    """Reads the state.

    Raises:
        UsageError: There is none.
    """
    path = folder / _NAME
    if not path.exists():
        raise UsageError(f"{folder} has no {_NAME}: no round was finished there", hint="start it again with --out")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
