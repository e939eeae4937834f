"""The answers shown at the edge: the edge's own at once, refined by the cloud's if they are in time."""

from __future__ import annotations

from typing import Literal

from edgeai.collab.metrics.confusion import Labels
from edgeai.collab.sim.frame_state import FrameState


class Display:
    """Tracks the newest answer, and the answer to each frame until its deadline."""

    def __init__(self) -> None:
        self.labels: Labels | None = None
        """Labels of the newest frame that has an answer; None before the first answer."""
        self._newest_shown = -1
        self._newest_refined = -1

    def show(self, state: FrameState, labels: Labels, source: Literal["edge", "cloud"], now_s: float) -> None:
        """Show an answer; after the frame's deadline it no longer counts for this frame."""
        if not state.is_judged:
            state.answer, state.shown, state.shown_s = source, labels, now_s
        if state.index >= self._newest_shown:
            self._newest_shown, self.labels = state.index, labels

    def refine(self, state: FrameState, labels: Labels, now_s: float) -> bool:
        """Show a cloud answer, unless its deadline or that of a newer answer has passed; return whether it is shown."""
        if state.is_judged or state.index <= self._newest_refined:
            return False
        self._newest_refined = state.index
        self.show(state, labels, "cloud", now_s)
        return True
