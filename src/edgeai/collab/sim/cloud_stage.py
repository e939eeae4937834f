"""The cloud's part of a run: serve requests, answer and fuse, pass labels to training, and reply.

upload ─ server queue ─ models and fusion ─ reply with labels
│                   └ label for training in the cloud
└ deadline passed: empty reply; the frame is labeled later, for training
"""

from __future__ import annotations

from collections.abc import Callable

from edgeai.collab.cloud.answer import Answerer, CloudAnswer
from edgeai.collab.cloud.server import CloudServer
from edgeai.collab.edge.node import EdgeNode
from edgeai.collab.metrics.confusion import Labels
from edgeai.collab.sim.events import EventLoop
from edgeai.collab.sim.frame_state import Reply, Request
from edgeai.collab.sim.update_schedule import Training
from edgeai.collab.strategies.strategy import Strategy
from edgeai.collab.wire.codec import HEADER_BYTES, decode_image, encode_labels
from edgeai.core.errors import EdgeAIError
from edgeai.core.link import Link

MAX_PROBLEMS = 20
"""Maximum number of error messages kept."""


class CloudStage:
    """Handles requests from their arrival at the cloud to the arrival of the reply at the edge.

    Args:
        loop: Event loop.
        link: Link that carries replies.
        answerer: Computes answers.
        edge: Edge model, which the cloud completes for partitioned frames.
        strategy: Training policy.
        training: Receives labels where training happens in the cloud.
        cloud_s: Duration of one answer.
        max_later: Maximum number of requests that wait for a label only.
        on_reply: Called with each reply that arrived at the edge.
        on_closed: Called with each request that gets no reply.
    """

    def __init__(
        self,
        loop: EventLoop,
        link: Link,
        *,
        answerer: Answerer,
        edge: EdgeNode,
        strategy: Strategy,
        training: Training,
        cloud_s: float,
        max_later: int,
        on_reply: Callable[[Reply, float], None],
        on_closed: Callable[[Request], None],
    ) -> None:
        self._loop, self._link, self._answerer, self._edge = loop, link, answerer, edge
        self._training, self._trains_at = training, strategy.trains_at
        self._on_reply, self._on_closed = on_reply, on_closed
        self.problems: list[str] = []
        """First errors, one line each."""
        self._server = CloudServer(
            loop,
            lambda request: request.split.cloud_s if request.split else cloud_s,
            on_served=self._served,
            on_expired=self._expired,
            keeps_expired=self._trains_at is not None,
            max_later=max_later,
            on_dropped=self._dropped,
        )

    def receive(self, request: Request, now_s: float) -> None:
        """Accept a request that arrived at the cloud."""
        self._server.receive(request, now_s)

    def _served(self, request: Request, now_s: float) -> None:
        if request.split is not None:
            self._reply(request, now_s, labels=self._completed(request))
            return
        state = request.state
        try:
            answer = self._answerer(request.jpeg, state.frame.image.shape[:2])
        except EdgeAIError as error:
            self._failed(request, error, now_s)
            return
        state.cloud = answer
        if self._trains_at == "cloud":
            self._training.add_label(request, answer, now_s)
        if request.for_answer or self._trains_at == "edge":
            self._reply(request, now_s, labels=answer.labels, answer=answer, frees_slot=request.for_answer)
        else:
            self._on_closed(request)

    def _completed(self, request: Request) -> Labels:
        """Return the result of the partitioned edge model; a frame sent as JPEG is decoded first."""
        image = request.state.frame.image
        return self._edge.run(decode_image(request.jpeg, image.shape[:2]) if request.jpeg else image).labels

    def _failed(self, request: Request, error: EdgeAIError, now_s: float) -> None:
        """Record a frame that the cloud cannot answer, for example due to a user-defined mask source."""
        request.state.drops.append("cloud error")
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"frame {request.state.frame.id}: {error.message}")
        if request.for_answer:
            self._reply(request, now_s)
        else:
            self._on_closed(request)

    def _expired(self, request: Request, now_s: float) -> None:
        """Tell the edge that a request is too late for an answer; its label may still be used for training."""
        request.state.drops.append("expired")
        if self._trains_at is not None:
            request.state.num_open += 1  # the label is still pending
        self._reply(request, now_s)

    def _dropped(self, request: Request) -> None:
        request.state.drops.append("cloud busy")
        self._on_closed(request)

    def _reply(
        self,
        request: Request,
        now_s: float,
        *,
        labels: Labels | None = None,
        answer: CloudAnswer | None = None,
        frees_slot: bool = True,
    ) -> None:
        """Send labels to the edge, or only a header if there is no answer."""
        num_bytes = HEADER_BYTES + (0 if labels is None else len(encode_labels(labels)))
        reply = Reply(request, num_bytes, frees_slot, labels, answer)
        transfer = self._link.transfer("down", num_bytes, now_s)
        self._loop.at(transfer.end_s, lambda end_s: self._on_reply(reply, end_s))
