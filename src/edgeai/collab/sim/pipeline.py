"""One run: frames through edge, link and cloud in virtual time.

    frame ─ route ─ edge queue ─ edge pass ─ answer out ─ decide ─ stay
                                                            └ JPEG ─ uplink ─ cloud server ─ reply ─ refine if in time
                                                                               └ label ─ training ─ push ─ swap
    deadline: what is shown now is the answer to this frame

The edge's answer is out at once; the cloud's refines it. Late replies still teach. All that happens is an action of one
event loop, so a run depends on its config and seed alone, as long as compute times are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from edgeai.collab.cloud.answer import Answerer, CloudAnswer
from edgeai.collab.cloud.server import CloudServer
from edgeai.collab.config.run import CollabRunConfig
from edgeai.collab.edge.device import EdgeDevice
from edgeai.collab.edge.queue import EdgeQueue
from edgeai.collab.edge.uplink import Uplink
from edgeai.collab.metrics.confusion import Labels, agreement, confusion, frame_loss
from edgeai.collab.sim.events import EventLoop, Order
from edgeai.collab.sim.frame_state import InPlay, Request
from edgeai.collab.sim.outcome import Outcomes
from edgeai.collab.sim.probe import TransferProbe
from edgeai.collab.sim.training import Training
from edgeai.collab.strategies.strategy import CloudOnly, EdgeOnly, EdgeView, Labelled, Split, Verdict
from edgeai.collab.streams.stream import Frame
from edgeai.collab.wire.codec import HEADER_BYTES, decode_image, encode_image, encode_labels
from edgeai.collab.wire.quality_ladder import CodecLadder
from edgeai.collab.wire.traffic import Traffic
from edgeai.core.errors import EdgeAIError
from edgeai.core.link import Link

GOODPUT_WINDOW_S = 10.0
MAX_PROBLEMS = 20
"""Problems that are kept word for word."""
SLOWED = 2.0
"""How many times longer a pass takes while the edge trains (ours)."""


@dataclass(frozen=True)
class Times:
    """How long things take, in virtual seconds."""

    edge_s: float
    encode_s: float
    cloud_s: float


class Pipeline:
    """Plays a stream once.

    Args:
        cfg: The settled config.
        edge: The device; updates change it.
        answerer: The cloud's models.
        strategy: Decides.
        link: Carries bytes.
        times: Of edge and cloud.
        outcomes: Judges frames.
        probe: Watches for forgetting.
        on_frame: Hears how many frames were taken so far.
        on_complete: Hears of every frame once it is over.
    """

    def __init__(
        self,
        cfg: CollabRunConfig,
        *,
        edge: EdgeDevice,
        answerer: Answerer,
        strategy: EdgeOnly,
        link: Link,
        times: Times,
        outcomes: Outcomes,
        probe: TransferProbe,
        on_frame: Callable[[int], None],
        on_complete: Callable[[InPlay], None],
    ) -> None:
        self._cfg, self._edge, self._answerer, self._strategy = cfg, edge, answerer, strategy
        self._link, self._times, self._outcomes, self._probe = link, times, outcomes, probe
        self._on_frame, self._on_complete = on_frame, on_complete
        learns = strategy.trains_at is not None
        self._loop = EventLoop(wall=cfg.pace == "wall")
        self._queue: EdgeQueue[InPlay] = EdgeQueue(
            self._loop, cfg.edge_queue_frames, begin=self._edge_pass, done=self._edge_done, dropped=self._edge_dropped
        )
        self.uplink = Uplink(
            self._loop,
            link,
            cfg.upload,
            keeps=learns,
            sent=self._sent,
            delivered=self._delivered,
            given_up=self._over,
        )
        self._server = CloudServer(
            self._loop,
            lambda request: request.split.cloud_s if request.split else times.cloud_s,
            answered=self._cloud_done,
            expired=self._cloud_expired,
            keeps=learns,
            max_later=max(1, cfg.upload.spool_frames),
            dropped=self._cloud_dropped,
        )
        self.training = Training(self._loop, link, strategy, edge, self._pushed)
        spare_s = max(0.0, cfg.evaluate.deadline_s - times.edge_s - times.cloud_s)
        self._ladder = CodecLadder(cfg.upload.quality, adapt=cfg.upload.adapt, budget_s=spare_s / 2)
        self.traffic = Traffic()
        self.problems: list[str] = []
        self.num_frames = 0
        self._segment = ""
        self._shown: tuple[int, Labels] | None = None  # the newest frame that has an answer
        self._newest_refined = -1

    def play(self, frames: Iterator[Frame]) -> None:
        """Plays to the end, and until all that is under way has arrived."""
        self._plan_next(frames)
        self._loop.run()

    @property
    def now_s(self) -> float:
        """Virtual time."""
        return self._loop.now_s

    @property
    def num_swaps(self) -> int:
        """Versions that the edge took up."""
        return self._edge.num_swaps

    # ----------------------------------------------------------------------------------------------------------------
    # Frames come and are judged

    def _plan_next(self, frames: Iterator[Frame]) -> None:
        frame = next(frames, None)
        if frame is None:
            self._loop.at(self.now_s, self._ended, Order.FRAME)
        else:
            self._loop.at(frame.time_s, lambda now_s: self._take(frame, frames, now_s), Order.FRAME)

    def _ended(self, now_s: float) -> None:
        self.training.is_over = True
        self.uplink.close(now_s)

    def _take(self, frame: Frame, frames: Iterator[Frame], now_s: float) -> None:
        frame = replace(frame, depth_m=None)  # nobody needs it here, and it is large
        play = InPlay(frame, self.num_frames, frame.time_s + self._cfg.evaluate.deadline_s)
        self.num_frames += 1
        self._segment = frame.segment
        self._probe.see(frame)
        self._loop.at(play.deadline_s, lambda end_s: self._judge(play, end_s), Order.DEADLINE)
        play.route = self._strategy.route(now_s)
        if isinstance(play.route, CloudOnly):
            play.verdict = Verdict(upload=True, prob_upload=1.0)
            self._upload(play, now_s)
        else:
            play.num_open += 1
            self._queue.offer(play, now_s)
        self.training.begin_if_due(now_s)
        self._on_frame(self.num_frames)
        self._plan_next(frames)

    def _judge(self, play: InPlay, now_s: float) -> None:
        self._outcomes.judge(play, None if self._shown is None else self._shown[1])
        self._strategy.judged(self._outcomes.latency_s(play), now_s)
        if play.is_sent and play.reply_s is None:
            self.uplink.breaker.failed(now_s)
        self._complete_if_over(play)

    def _show(self, play: InPlay, labels: Labels, now_s: float) -> None:
        if not play.is_judged:
            play.shown, play.shown_s = labels, now_s
        if self._shown is None or play.index >= self._shown[0]:
            self._shown = (play.index, labels)

    def _complete_if_over(self, play: InPlay) -> None:
        if play.is_complete:
            self._outcomes.complete(play)
            self.traffic.drops.update(play.drops)
            self._on_complete(play)

    # ----------------------------------------------------------------------------------------------------------------
    # At the edge

    def _edge_pass(self, play: InPlay) -> float:
        """Begins a frame; returns how long it takes."""
        slowed = SLOWED if self.training.slows_edge else 1.0
        if isinstance(play.route, Split):
            return play.route.edge_s * slowed
        play.edge = self._edge.run(play.frame.image)
        play.edge_labels, play.version = play.edge.labels, play.edge.version
        return self._times.edge_s * slowed

    def _edge_done(self, play: InPlay, now_s: float) -> None:
        play.num_open -= 1
        if play.edge is None:
            play.verdict = Verdict(upload=True, prob_upload=1.0)
        else:
            play.edge_s = now_s
            if not play.is_judged:
                play.answer = "edge"
            self._show(play, play.edge.labels, now_s)
            play.delta = self._strategy.delta
            view = EdgeView(play.index, play.frame.image, play.edge, gain=lambda: self._gain(play))
            play.verdict = self._strategy.decide(view)
            self.traffic.count["explored"] += play.verdict.is_explored
            play.edge = None
        if play.verdict.upload:
            self._upload(play, now_s)
        self.training.begin_if_due(now_s)
        self._complete_if_over(play)

    def _edge_dropped(self, play: InPlay) -> None:
        play.num_open -= 1
        play.drops.append("edge busy")

    def _gain(self, play: InPlay) -> float | None:
        """Loss of the edge minus loss of the cloud on a frame, by the truth."""
        truth, num_classes = play.frame.labels, len(self._edge.model.classes)
        if truth is None or play.edge_labels is None:
            return None
        cloud = self.shadow(play)
        losses = [frame_loss(confusion(truth, labels, num_classes)) for labels in (play.edge_labels, cloud.labels)]
        return None if losses[0] is None or losses[1] is None else losses[0] - losses[1]

    def shadow(self, play: InPlay) -> CloudAnswer:
        """The cloud's answer to a frame at full quality, outside of virtual time.

        Raises:
            EdgeAIError: As `CloudModels.answer`.
        """
        return shadow_answer(play, self._answerer, self._cfg.upload.quality)

    def _upload(self, play: InPlay, now_s: float) -> None:
        """Compresses a frame and hands it to the uplink."""
        verdict = play.verdict
        split = play.route if isinstance(play.route, Split) else None
        jpeg, body_bytes = b"", split.num_bytes if split else 0
        if split is None or split.layer == 0:
            step = self._ladder.choose(self._goodput_bps(now_s))
            play.quality, play.scale = step
            image = play.frame.image if verdict.image is None else verdict.image
            jpeg = encode_image(image, quality=step[0], scale=step[1])
            play.verdict = replace(verdict, image=None)
            body_bytes = len(jpeg)
            self._ladder.weighed(step, body_bytes)
        play.num_open += 1
        play.is_waited_for = verdict.for_answer
        request = Request(play, jpeg, HEADER_BYTES + body_bytes, verdict.for_answer, split)
        self._loop.at(now_s + self._times.encode_s, lambda end_s: self._hand_over(request, end_s))

    def _hand_over(self, request: Request, now_s: float) -> None:
        if request.for_answer:
            self.uplink.ask(request, now_s)
        else:
            self.uplink.store(request, now_s)

    def _goodput_bps(self, now_s: float) -> float | None:
        return self._link.goodput_bps("up", now_s=now_s, window_s=GOODPUT_WINDOW_S)

    def _sent(self, request: Request, now_s: float) -> None:
        request.play.is_sent = request.for_answer
        self._strategy.sent(request.num_bytes, now_s, self._goodput_bps(now_s))

    # ----------------------------------------------------------------------------------------------------------------
    # In the cloud

    def _delivered(self, request: Request, now_s: float) -> None:
        request.play.is_uploaded = True
        request.play.up_bytes += request.num_bytes
        self.traffic.up(request.num_bytes)
        self._server.receive(request, now_s)

    def _cloud_expired(self, request: Request, now_s: float) -> None:
        """Too late for an answer: the edge is told so; the label may still teach."""
        request.play.drops.append("expired")
        if self._strategy.trains_at is not None:
            request.play.num_open += 1
        self._reply(request, None, None, now_s, frees=True)

    def _cloud_dropped(self, request: Request) -> None:
        request.play.drops.append("cloud busy")
        self._over(request)

    def _cloud_done(self, request: Request, now_s: float) -> None:
        play, size_px = request.play, request.play.frame.image.shape[:2]
        if request.split is not None:
            image = decode_image(request.jpeg, size_px) if request.jpeg else play.frame.image
            self._reply(request, self._edge.run(image).labels, None, now_s, frees=True)
            return
        try:
            answer = self._answerer(request.jpeg, size_px)
        except EdgeAIError as error:
            self._fail(request, error, now_s)
            return
        play.cloud = answer
        if self._strategy.trains_at == "cloud":
            self._learn(request, answer, now_s)
        if request.for_answer or self._strategy.trains_at == "edge":
            self._reply(request, answer.labels, answer, now_s, frees=request.for_answer)
        else:
            self._over(request)

    def _fail(self, request: Request, error: EdgeAIError, now_s: float) -> None:
        """A frame that the cloud cannot answer, such as by a user's mask source; the run goes on."""
        request.play.drops.append("cloud error")
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"frame {request.play.frame.id}: {error.message}")
        if request.for_answer:
            self._reply(request, None, None, now_s, frees=True)
        else:
            self._over(request)

    def _learn(self, request: Request, answer: CloudAnswer, now_s: float) -> None:
        play = request.play
        self.traffic.count["labelled"] += 1
        self._strategy.labelled(
            Labelled(
                frame_id=play.frame.id,
                time_s=play.frame.time_s,
                jpeg=request.jpeg,
                answer=answer,
                verdict=play.verdict,
                version=play.version,
            )
        )
        self.training.begin_if_due(now_s)

    # ----------------------------------------------------------------------------------------------------------------
    # Back at the edge

    def _reply(
        self, request: Request, labels: Labels | None, answer: CloudAnswer | None, now_s: float, *, frees: bool
    ) -> None:
        """Sends labels down, or the bare header of an answer that there is not; `frees` a place in flight."""
        num_bytes = HEADER_BYTES + (0 if labels is None else len(encode_labels(labels)))
        transfer = self._link.transfer("down", num_bytes, now_s)

        def arrived(end_s: float) -> None:
            self.traffic.reply(num_bytes)
            request.play.down_bytes += num_bytes
            if labels is not None:
                self._replied(request, labels, answer, end_s)
            if frees:
                self.uplink.answered(end_s)
            self._over(request)

        self._loop.at(transfer.end_s, arrived)

    def _replied(self, request: Request, labels: Labels, answer: CloudAnswer | None, now_s: float) -> None:
        play = request.play
        play.reply_s = now_s
        if request.for_answer:
            if not play.is_judged:
                self.uplink.breaker.succeeded()
            if not play.is_judged and play.index > self._newest_refined:
                self._newest_refined = play.index
                play.answer = "cloud"
                self._show(play, labels, now_s)
                self.traffic.count["refined"] += 1
            else:
                self.traffic.count["late"] += 1
        if answer is None:
            return
        if play.edge_labels is not None:
            agreed = agreement(play.edge_labels, labels, len(self._edge.model.classes))
            if agreed is not None:
                self._strategy.replied(play.verdict, 1.0 - agreed)
        if self._strategy.trains_at == "edge":
            self._learn(request, answer, now_s)

    def _over(self, request: Request) -> None:
        """Nothing more will come of a request."""
        request.play.num_open -= 1
        self._complete_if_over(request.play)

    def _pushed(self, now_s: float, num_bytes: int) -> None:
        self.traffic.push(num_bytes)
        self._outcomes.add_bytes(now_s, self._segment, down_bytes=num_bytes)


def shadow_answer(play: InPlay, answerer: Answerer, quality: int) -> CloudAnswer:
    """What the cloud would say of a frame sent at full size.

    Raises:
        EdgeAIError: As `CloudModels.answer`.
    """
    image: np.ndarray = play.frame.image
    return answerer(encode_image(image, quality=quality), (image.shape[0], image.shape[1]))
