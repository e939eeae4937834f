"""Training during a run: one update at a time, then a push over the link, then a swap at the edge."""

from __future__ import annotations

from collections.abc import Callable

from edgeai.collab.cloud.answer import CloudAnswer
from edgeai.collab.edge.node import EdgeNode
from edgeai.collab.learning.version import UpdateResult
from edgeai.collab.reports.run_report import UpdateEvent
from edgeai.collab.sim.events import EventLoop, Order
from edgeai.collab.sim.frame_state import Request
from edgeai.collab.strategies.strategy import LabeledFrame, Strategy
from edgeai.collab.wire.codec import HEADER_BYTES
from edgeai.core.link import Link

MAX_LISTED = 1000
"""Maximum number of updates listed in the report; later ones are only counted."""
SLOWDOWN = 2.0
"""Factor on the duration of an edge pass while the edge trains (ours)."""


class Training:
    """Runs a strategy's updates.

    Args:
        loop: Event loop.
        link: Link that carries pushes.
        strategy: Strategy that trains.
        edge: Edge that receives the versions.
        on_push: Called with time and bytes of each push that arrived at the edge.
    """

    def __init__(
        self,
        loop: EventLoop,
        link: Link,
        strategy: Strategy,
        edge: EdgeNode,
        on_push: Callable[[float, int], None],
    ) -> None:
        self._loop, self._link, self._strategy, self._edge, self._on_push = loop, link, strategy, edge, on_push
        self._is_running = False
        self.is_over = False
        """The stream has ended: no update starts any more."""
        self.events: list[UpdateEvent] = []
        self.num_labeled = 0
        """Labeled frames received."""
        self.num_updates = 0
        self.num_accepted = 0

    @property
    def edge_slowdown(self) -> float:
        """Factor on the duration of an edge pass."""
        return SLOWDOWN if self._is_running and self._strategy.trains_at == "edge" else 1.0

    def add_label(self, request: Request, answer: CloudAnswer, now_s: float) -> None:
        """Pass a labeled frame to the strategy, and train if an update is due."""
        self.num_labeled += 1
        state = request.state
        label = LabeledFrame(
            state.frame.id, state.frame.time_s, request.jpeg, answer, state.decision, version=state.version
        )
        self._strategy.on_label(label)
        self.begin_if_due(now_s)

    def begin_if_due(self, now_s: float) -> None:
        """Start an update if one is due. It is computed at once, and published when its duration has passed."""
        if self._is_running or self.is_over or not self._strategy.due(now_s):
            return
        self._is_running = True
        result = self._strategy.update(now_s)
        self.num_updates += 1
        self.num_accepted += result.accepted
        self._loop.at(now_s + result.compute_s, lambda end_s: self._publish(result, now_s, end_s), Order.SWAP)

    def _publish(self, result: UpdateResult, begin_s: float, now_s: float) -> None:
        self._is_running = False
        num_bytes = 0
        if self._strategy.trains_at == "edge":
            if result.accepted or result.miner_accepted:
                self._edge.load(result.version)
        elif result.num_bytes:
            num_bytes = HEADER_BYTES + result.num_bytes
            transfer = self._link.transfer("down", num_bytes, now_s)
            self._loop.at(transfer.end_s, lambda end_s: self._arrived(result, num_bytes, end_s), Order.SWAP)
        if len(self.events) < MAX_LISTED:
            self.events.append(_event(result, begin_s, now_s, num_bytes))
        self.begin_if_due(now_s)

    def _arrived(self, result: UpdateResult, num_bytes: int, now_s: float) -> None:
        self._edge.apply(result.net_push, result.miner_push, result.version.number)
        self._on_push(now_s, num_bytes)


def _event(result: UpdateResult, begin_s: float, end_s: float, num_bytes: int) -> UpdateEvent:
    return UpdateEvent(
        begin_s=begin_s,
        end_s=end_s,
        version=result.version.number,
        accepted=result.accepted,
        miner_accepted=result.miner_accepted,
        miou_before=result.miou_before,
        miou_after=result.miou_after,
        num_bytes=num_bytes,
    )
