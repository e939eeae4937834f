"""Counters of messages, bytes and drops of one run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from edgeai.core.report.fields import about


@dataclass(frozen=True)
class TrafficSummary:
    """Numbers of messages and bytes, headers included."""

    up_frames: int = field(metadata=about("frames uploaded"))
    up_bytes: int = field(metadata=about("bytes of frames"))
    down_replies: int = field(metadata=about("answers received"))
    down_reply_bytes: int = field(metadata=about("bytes of answers"))
    down_pushes: int = field(metadata=about("model pushes"))
    down_push_bytes: int = field(metadata=about("bytes of model pushes"))
    refined: int = field(metadata=about("cloud answers shown"))
    late: int = field(
        metadata=about("late cloud answers", meaning="arrived after the deadline, or after the answer of a newer frame")
    )
    explored: int = field(metadata=about("easy frames uploaded", meaning="sent for exploration"))
    labelled: int = field(metadata=about("frames labeled for training"))
    drops: dict[str, int] = field(metadata=about("dropped"))
    """Number of frames by cause."""
    breaker_opened: int = field(
        metadata=about(
            "circuit breaker opened", meaning="times that uploads were paused because the cloud did not answer"
        )
    )


class Traffic:
    """Counts messages on arrival."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()

    def up(self, num_bytes: int) -> None:
        """Count a frame that arrived at the cloud."""
        self.count.update(up_frames=1, up_bytes=num_bytes)

    def reply(self, num_bytes: int) -> None:
        """Count an answer that arrived at the edge."""
        self.count.update(down_replies=1, down_reply_bytes=num_bytes)

    def push(self, num_bytes: int) -> None:
        """Count a version that arrived at the edge."""
        self.count.update(down_pushes=1, down_push_bytes=num_bytes)

    def summary(self, *, num_labeled: int, breaker_opened: int) -> TrafficSummary:
        """Return the counts so far.

        Args:
            num_labeled: Labeled frames received for training.
            breaker_opened: Number of times the circuit breaker opened.
        """
        names = ("up_frames", "up_bytes", "down_replies", "down_reply_bytes", "down_pushes", "down_push_bytes")
        names += ("refined", "late", "explored")  # type: ignore[assignment]
        counts = {name: self.count[name] for name in names}
        return TrafficSummary(
            **counts, labelled=num_labeled, drops=dict(sorted(self.drops.items())), breaker_opened=breaker_opened
        )
