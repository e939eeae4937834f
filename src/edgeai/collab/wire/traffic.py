"""What went over the link, and what went wrong on the way: counters of one run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class TrafficSummary:
    """Messages and bytes, headers included."""

    up_frames: int
    up_bytes: int
    down_replies: int
    down_reply_bytes: int
    down_pushes: int
    down_push_bytes: int
    refined: int
    """Cloud answers that were shown."""
    late: int
    """Cloud answers that came after the deadline, or after that of a newer frame."""
    explored: int
    """Easy frames that were uploaded all the same."""
    labelled: int
    """Frames whose labels reached the place of training."""
    drops: dict[str, int]
    """By cause."""
    breaker_opened: int
    """Times that the cloud was given up for a while."""


class Traffic:
    """Adds up; a message counts when it arrives."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()

    def up(self, num_bytes: int) -> None:
        """A frame arrived at the cloud."""
        self.count.update(up_frames=1, up_bytes=num_bytes)

    def reply(self, num_bytes: int) -> None:
        """An answer arrived at the edge."""
        self.count.update(down_replies=1, down_reply_bytes=num_bytes)

    def push(self, num_bytes: int) -> None:
        """A new version arrived at the edge."""
        self.count.update(down_pushes=1, down_push_bytes=num_bytes)

    def summary(self, *, breaker_opened: int) -> TrafficSummary:
        """The counts so far."""
        names = ("up_frames", "up_bytes", "down_replies", "down_reply_bytes", "down_pushes", "down_push_bytes")
        names += ("refined", "late", "explored", "labelled")  # type: ignore[assignment]
        counts = {name: self.count[name] for name in names}
        return TrafficSummary(**counts, drops=dict(sorted(self.drops.items())), breaker_opened=breaker_opened)
