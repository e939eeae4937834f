"""The protocol of threshold policies: which confidence scores are hard.

A frame with score s is hard, and is uploaded, if s < delta. A policy gives the probability of an upload. It is
called after every decision, labeled frame and measured use of the link, and adapts delta as its class says.
"""

from __future__ import annotations

from typing import Protocol


class ThresholdPolicy(Protocol):
    """A policy that selects frames for upload by their score."""

    @property
    def delta(self) -> float:
        """The current threshold."""

    def hard_prob(self, score: float) -> float:
        """Return the probability that a frame with this score is uploaded, exploration excluded."""

    def on_decision(self, score: float, *, upload: bool) -> None:
        """Process the decision on a frame. A link outage does not change `upload`."""

    def on_label(self, score: float, *, loss_edge: float, weight: float) -> None:
        """Process the label of an uploaded frame.

        Args:
            score: The frame's score.
            loss_edge: The edge's loss in [0,1], by the cloud's label.
            weight: Importance weight 1/p, with p the probability of the frame's upload.
        """

    def on_usage(self, time_s: float, *, latency_s: float | None = None, num_bytes: int = 0) -> None:
        """Process the latency of an answer or the bytes of an upload; called in time order."""
