"""How coarsely frames are sent: full quality while the link carries it in time, then coarser, then smaller."""

from __future__ import annotations

STEPS: tuple[tuple[int, float], ...] = ((75, 1.0), (75, 0.5))
"""JPEG quality and scale below the wanted one. Coarser frames cost a segmentation net less than missing ones."""


class CodecLadder:
    """Chooses JPEG quality and scale by what the last frames weighed and how fast the link was.

    Args:
        quality: Wanted.
        adapt: Give way to a slow link; else always the wanted quality.
        budget_s: A frame should be on the line for no longer than this.
    """

    def __init__(self, quality: int, *, adapt: bool, budget_s: float) -> None:
        steps = [step for step in STEPS if step[0] <= quality] if adapt else []
        self._steps = [(quality, 1.0), *steps]
        self._budget_s = budget_s
        self._sizes: dict[tuple[int, float], int] = {}

    def choose(self, goodput_bps: float | None) -> tuple[int, float]:
        """Quality and scale for the next frame; a step that was never tried is taken to fit."""
        for step in self._steps[:-1]:
            if goodput_bps is None or 8 * self._sizes.get(step, 0) / goodput_bps <= self._budget_s:
                return step
        return self._steps[-1]

    def weighed(self, step: tuple[int, float], num_bytes: int) -> None:
        """Hears what a frame became."""
        self._sizes[step] = num_bytes
