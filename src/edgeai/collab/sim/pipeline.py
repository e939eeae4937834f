"""The pipeline of one run: frames through edge, link and cloud in virtual time.

    capture ─ route ─ edge queue ─ edge pass ─ show ─ decide ─ stay
                                                         └ JPEG ─ uplink ─ cloud ─ reply ─ refine if in time
                                                                              └ label ─ training ─ push ─ swap
    deadline: the answer shown now is the answer to the frame

The edge's answer is shown at once; the cloud's answer refines it. Late replies are used for training only. Everything
happens as an action of one event loop, so a run with given compute times depends only on its config and seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from edgeai.collab.cloud.answer import Answerer
from edgeai.collab.config.playback import UploadConfig
from edgeai.collab.edge.node import EdgeNode
from edgeai.collab.edge.queue import EdgeQueue
from edgeai.collab.edge.uplink import Uplink
from edgeai.collab.metrics.confusion import agreement
from edgeai.collab.sim.cloud_stage import CloudStage
from edgeai.collab.sim.display import Display
from edgeai.collab.sim.events import EventLoop, Order
from edgeai.collab.sim.frame_state import FrameState, Reply, Request
from edgeai.collab.sim.outcome import Outcomes
from edgeai.collab.sim.shadow import ShadowCloud
from edgeai.collab.sim.timing import ComputeTimes
from edgeai.collab.sim.update_schedule import Training
from edgeai.collab.strategies.strategy import CloudOnly, Decision, EdgeView, Split, Strategy
from edgeai.collab.streams.stream import Frame
from edgeai.collab.wire.codec import HEADER_BYTES
from edgeai.collab.wire.frame_encoder import FrameEncoder
from edgeai.collab.wire.traffic import Traffic
from edgeai.core.link import Link

GOODPUT_WINDOW_S = 10.0
"""Window in which the uplink rate is measured."""


class Pipeline:
    """Plays a stream once.

    Args:
        edge: Edge device; updates change it.
        answerer: Computes the cloud's answers.
        strategy: Upload and training policy.
        link: Link between edge and cloud.
        times: Compute times of edge and cloud.
        upload: Upload settings.
        deadline_s: Time from capture to the evaluation of a frame's answer.
        edge_queue_frames: Number of frames that may wait for the edge.
        outcomes: Evaluates the frames.
        shadow: Computes the oracle's gain.
        wall_pace: Run no faster than real time.
        on_frame: Called with each frame at capture.
        on_complete: Called with each frame once it is complete.
    """

    def __init__(
        self,
        *,
        edge: EdgeNode,
        answerer: Answerer,
        strategy: Strategy,
        link: Link,
        times: ComputeTimes,
        upload: UploadConfig,
        deadline_s: float,
        edge_queue_frames: int,
        outcomes: Outcomes,
        shadow: ShadowCloud,
        wall_pace: bool,
        on_frame: Callable[[Frame], None],
        on_complete: Callable[[FrameState], None],
    ) -> None:
        self._edge, self._strategy, self._link, self._times = edge, strategy, link, times
        self._deadline_s, self._outcomes, self._shadow = deadline_s, outcomes, shadow
        self._on_frame, self._on_complete = on_frame, on_complete
        self._loop = EventLoop(wall=wall_pace)
        self._display = Display()
        self._queue: EdgeQueue[FrameState] = EdgeQueue(
            self._loop,
            edge_queue_frames,
            begin=self._edge_pass,
            on_done=self._edge_done,
            on_dropped=self._edge_dropped,
        )
        spare_s = max(0.0, deadline_s - times.edge_s - times.cloud_s)
        self._encoder = FrameEncoder(upload.quality, adapt=upload.adapt, budget_s=spare_s / 2)
        self.uplink = Uplink(
            self._loop,
            link,
            upload,
            keeps_late=strategy.trains_at is not None,
            on_sent=self._sent,
            on_delivered=self._delivered,
            on_given_up=self._close,
        )
        self.training = Training(self._loop, link, strategy, edge, self._pushed)
        self.cloud = CloudStage(
            self._loop,
            link,
            answerer=answerer,
            edge=edge,
            strategy=strategy,
            training=self.training,
            cloud_s=times.cloud_s,
            max_later=max(1, upload.spool_frames),
            on_reply=self._replied,
            on_closed=self._close,
        )
        self.traffic = Traffic()
        self.num_frames = 0
        self._segment = ""

    @property
    def now_s(self) -> float:
        """Current virtual time."""
        return self._loop.now_s

    def play(self, frames: Iterator[Frame]) -> None:
        """Play all frames, and run until nothing is in transit."""
        self._schedule_capture(frames)
        self._loop.run()

    # ----------------------------------------------------------------------------------------------------------------
    # Capture

    def _schedule_capture(self, frames: Iterator[Frame]) -> None:
        frame = next(frames, None)
        if frame is None:
            self._loop.at(self.now_s, self._stream_ended, Order.FRAME)
        else:
            self._loop.at(frame.time_s, lambda now_s: self._capture(frame, frames, now_s), Order.FRAME)

    def _stream_ended(self, now_s: float) -> None:
        self.training.is_over = True
        self.uplink.close(now_s)

    def _capture(self, frame: Frame, frames: Iterator[Frame], now_s: float) -> None:
        frame = replace(frame, depth_m=None)  # large, and unused here
        state = FrameState(frame, self.num_frames, frame.time_s + self._deadline_s)
        self.num_frames += 1
        self._segment = frame.segment
        self._on_frame(frame)
        self._loop.at(state.deadline_s, lambda end_s: self._judge(state, end_s), Order.DEADLINE)
        state.route = self._strategy.route(now_s)
        if isinstance(state.route, CloudOnly):
            state.decision = Decision(upload=True, prob_upload=1.0)
            self._upload(state, now_s)
        else:
            state.num_open += 1
            self._queue.offer(state, now_s)
        self.training.begin_if_due(now_s)
        self._schedule_capture(frames)

    # ----------------------------------------------------------------------------------------------------------------
    # Edge

    def _edge_pass(self, state: FrameState) -> float:
        """Process a frame, and return the duration."""
        if isinstance(state.route, Split):
            return state.route.edge_s * self.training.edge_slowdown
        state.edge = self._edge.run(state.frame.image)
        state.edge_labels, state.version = state.edge.labels, state.edge.version
        return self._times.edge_s * self.training.edge_slowdown

    def _edge_done(self, state: FrameState, now_s: float) -> None:
        state.num_open -= 1
        if state.edge is None:
            state.decision = Decision(upload=True, prob_upload=1.0)
        else:
            state.edge_s = now_s
            self._display.show(state, state.edge.labels, "edge", now_s)
            state.delta = self._strategy.delta
            view = EdgeView(state.index, state.frame.image, state.edge, gain=lambda: self._shadow.gain(state))
            state.decision = self._strategy.decide(view)
            self.traffic.count["explored"] += state.decision.is_explored
            state.edge = None
        if state.decision.upload:
            self._upload(state, now_s)
        self.training.begin_if_due(now_s)
        self._record_if_complete(state)

    def _edge_dropped(self, state: FrameState) -> None:
        state.num_open -= 1
        state.drops.append("edge busy")

    # ----------------------------------------------------------------------------------------------------------------
    # Upload

    def _upload(self, state: FrameState, now_s: float) -> None:
        """Compress a frame and pass it to the uplink."""
        decision = state.decision
        split = state.route if isinstance(state.route, Split) else None
        jpeg, body_bytes = b"", split.num_bytes if split else 0
        if split is None or split.layer == 0:
            image = state.frame.image if decision.image is None else decision.image
            encoded = self._encoder.encode(image, self._goodput_bps(now_s))
            state.quality, state.scale = encoded.quality, encoded.scale
            jpeg, body_bytes = encoded.jpeg, len(encoded.jpeg)
            state.decision = replace(decision, image=None)
        state.num_open += 1
        state.is_waited_for = decision.for_answer
        request = Request(state, jpeg, HEADER_BYTES + body_bytes, decision.for_answer, split)
        accept = self.uplink.ask if request.for_answer else self.uplink.store
        self._loop.at(now_s + self._times.encode_s, lambda end_s: accept(request, end_s))

    def _goodput_bps(self, now_s: float) -> float | None:
        return self._link.goodput_bps("up", now_s=now_s, window_s=GOODPUT_WINDOW_S)

    def _sent(self, request: Request, now_s: float) -> None:
        request.state.is_sent = request.for_answer
        self._strategy.on_sent(request.num_bytes, now_s, self._goodput_bps(now_s))

    def _delivered(self, request: Request, now_s: float) -> None:
        request.state.is_uploaded = True
        request.state.up_bytes += request.num_bytes
        self.traffic.up(request.num_bytes)
        self.cloud.receive(request, now_s)

    # ----------------------------------------------------------------------------------------------------------------
    # Reply

    def _replied(self, reply: Reply, now_s: float) -> None:
        request = reply.request
        self.traffic.reply(reply.num_bytes)
        request.state.down_bytes += reply.num_bytes
        if reply.labels is not None:
            request.state.reply_s = now_s
            if request.for_answer:
                self._refine(reply, now_s)
            self._learn_from(reply, now_s)
        if reply.frees_slot:
            self.uplink.slot_freed(now_s)
        self._close(request)

    def _refine(self, reply: Reply, now_s: float) -> None:
        state = reply.request.state
        assert reply.labels is not None
        if not state.is_judged:
            self.uplink.breaker.succeeded()
        is_shown = self._display.refine(state, reply.labels, now_s)
        self.traffic.count["refined" if is_shown else "late"] += 1

    def _learn_from(self, reply: Reply, now_s: float) -> None:
        """Report the edge's agreement with the answer, and train on it where training happens at the edge."""
        state, answer = reply.request.state, reply.answer
        if answer is None:
            return
        if state.edge_labels is not None:
            agreed = agreement(state.edge_labels, answer.labels, self._outcomes.num_classes)
            if agreed is not None:
                self._strategy.on_reply(state.decision, 1.0 - agreed)
        if self._strategy.trains_at == "edge":
            self.training.add_label(reply.request, answer, now_s)

    def _pushed(self, now_s: float, num_bytes: int) -> None:
        self.traffic.push(num_bytes)
        self._outcomes.add_bytes(now_s, self._segment, down_bytes=num_bytes)

    # ----------------------------------------------------------------------------------------------------------------
    # Deadline and record

    def _judge(self, state: FrameState, now_s: float) -> None:
        self._outcomes.judge(state, self._display.labels)
        self._strategy.on_deadline(self._outcomes.latency_s(state), now_s)
        if state.is_sent and state.reply_s is None:
            self.uplink.breaker.failed(now_s)
        self._record_if_complete(state)

    def _close(self, request: Request) -> None:
        """Mark a request as finished."""
        request.state.num_open -= 1
        self._record_if_complete(request.state)

    def _record_if_complete(self, state: FrameState) -> None:
        if state.is_complete:
            self._outcomes.complete(state)
            self.traffic.drops.update(state.drops)
            self._on_complete(state)
