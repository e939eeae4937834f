"""Images of chosen frames, for the report."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np

from edgeai.collab.reports.frame_records import OVERLAYS
from edgeai.collab.sim.frame_state import FrameState


def save_overlay(state: FrameState, folder: Path) -> None:
    """Write overlays/NUMBER.npz below a run directory: the existing arrays [H,W,...] of a frame by name."""
    (folder / OVERLAYS).mkdir(exist_ok=True)
    planes = {
        "frame": state.frame.image,
        "truth": state.frame.labels,
        "edge": state.edge_labels,
        "semantics": None if state.cloud is None else state.cloud.semantics,
        "fused": None if state.cloud is None else state.cloud.labels,
        "shown": state.shown,
    }
    found = {name: cast(np.ndarray, plane) for name, plane in planes.items() if plane is not None}
    np.savez_compressed(folder / OVERLAYS / f"{state.index:06d}.npz", allow_pickle=False, **found)
