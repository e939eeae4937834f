"""When and how new versions come about in a run: one training at a time, then a push down the link, then a swap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeai.collab.edge.device import EdgeDevice
from edgeai.collab.learning.trainer import UpdateResult
from edgeai.collab.learning.version import Version
from edgeai.collab.sim.events import EventLoop, Order
from edgeai.collab.strategies.strategy import EdgeOnly
from edgeai.collab.wire.codec import HEADER_BYTES
from edgeai.core.link import Link

MAX_LISTED = 1000
"""Updates that are listed in the report; later ones are only counted."""


@dataclass(frozen=True)
class UpdateEvent:
    """One update of the edge model, its miner, or both."""

    begin_s: float
    end_s: float
    """When training was done."""
    version: int
    accepted: bool
    """The edge model changed."""
    miner_accepted: bool
    """The miner changed."""
    miou_before: float | None
    """On held-out frames, by the cloud's labels."""
    miou_after: float | None
    num_bytes: int
    """Of the push, header included; 0 without one."""


class Training:
    """Runs a strategy's updates.

    Args:
        loop: Virtual time.
        link: Carries pushes.
        strategy: Trains.
        edge: Gets the versions.
        pushed: Hears when how many bytes of a version have arrived at the edge.
    """

    def __init__(
        self,
        loop: EventLoop,
        link: Link,
        strategy: EdgeOnly,
        edge: EdgeDevice,
        pushed: Callable[[float, int], None],
    ) -> None:
        self._loop, self._link, self._strategy, self._edge, self._pushed = loop, link, strategy, edge, pushed
        self.is_running = False
        self.is_over = False
        """The stream has ended: nothing is trained any more."""
        self.events: list[UpdateEvent] = []
        self.num_updates = 0
        self.num_accepted = 0

    @property
    def slows_edge(self) -> bool:
        """The edge trains now, and has half its speed left for frames."""
        return self.is_running and self._strategy.trains_at == "edge"

    def begin_if_due(self, now_s: float) -> None:
        """Trains if it is time. The result is known at once, and becomes real when training has taken its time."""
        if self.is_running or self.is_over or not self._strategy.due(now_s):
            return
        self.is_running = True
        result, version = self._strategy.update(now_s)
        self.num_updates += 1
        self.num_accepted += result.accepted
        self._loop.at(now_s + result.compute_s, lambda end_s: self._publish(result, version, now_s, end_s), Order.SWAP)

    def _publish(self, result: UpdateResult, version: Version, begin_s: float, now_s: float) -> None:
        self.is_running = False
        num_bytes = 0
        if self._strategy.trains_at == "edge":
            if result.accepted or result.miner_accepted:
                self._edge.load(version)
        elif result.num_bytes:
            num_bytes = HEADER_BYTES + result.num_bytes
            transfer = self._link.transfer("down", num_bytes, now_s)
            self._loop.at(transfer.end_s, lambda end_s: self._arrived(result, num_bytes, end_s), Order.SWAP)
        if len(self.events) < MAX_LISTED:
            self.events.append(_event(result, begin_s, now_s, num_bytes))
        self.begin_if_due(now_s)

    def _arrived(self, result: UpdateResult, num_bytes: int, now_s: float) -> None:
        self._edge.apply(result.net_push, result.miner_push, result.version)
        self._pushed(now_s, num_bytes)


def _event(result: UpdateResult, begin_s: float, end_s: float, num_bytes: int) -> UpdateEvent:
    return UpdateEvent(
        begin_s=begin_s,
        end_s=end_s,
        version=result.version,
        accepted=result.accepted,
        miner_accepted=result.miner_accepted,
        miou_before=result.miou_before,
        miou_after=result.miou_after,
        num_bytes=num_bytes,
    )
