"""The state of a run after its last whole round, in one file that is whole or absent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

_NAME = "state.pt"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Writes the state beside the old one and puts it in its place."""
    part = folder / f".{_NAME}.{os.getpid()}.part"
    try:
        torch.save(state, part)
        part.replace(folder / _NAME)
    finally:
        part.unlink(missing_ok=True)


def load_state(folder: Path) -> dict[str, Any] | None:
    """Reads the state; None where no round was finished."""
    path = folder / _NAME
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
