"""`edgeai collab run`: build what a config describes, play the stream, and report.

Run directory: frames.jsonl (one line per frame), overlays/NUMBER.npz (images of chosen frames), report.json.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from edgeai.collab.cloud.answer_store import AnswerStore
from edgeai.collab.config.run import CollabRunConfig
from edgeai.collab.edge.device import EdgeDevice
from edgeai.collab.metrics.risk_bounds import hard_latency_s, soft_latency_s
from edgeai.collab.reports.frame_records import RecordWriter
from edgeai.collab.reports.run_report import Cost, RunReport
from edgeai.collab.sim.cloud_stage import MAX_PROBLEMS
from edgeai.collab.sim.frame_state import FrameState
from edgeai.collab.sim.outcome import Outcomes
from edgeai.collab.sim.overlays import save_overlay
from edgeai.collab.sim.pipeline import Pipeline
from edgeai.collab.sim.probe import TransferProbe
from edgeai.collab.sim.shadow import ShadowCloud
from edgeai.collab.sim.testbed import Testbed
from edgeai.collab.sim.timing import ComputeTimes, measured_s
from edgeai.collab.strategies.build import build_strategy, settled
from edgeai.collab.strategies.context import StrategyContext
from edgeai.collab.streams.stream import Frame
from edgeai.collab.wire.codec import encode_image
from edgeai.core.device import peak_memory_bytes
from edgeai.core.link import Link, find_link
from edgeai.core.metrics import Metrics
from edgeai.core.run import Run

LOG_EVERY = 50
"""Number of frames between lines of metrics.jsonl."""
_ONE_RUN_BYTES = 4 << 20  # a single run asks again only about the latest frames


def run_collab(cfg: CollabRunConfig, run: Run) -> RunReport:
    """Play a stream through edge, link and cloud. After Ctrl-C, report the frames so far.

    Args:
        cfg: Config of the run.
        run: Run directory.

    Raises:
        UsageError: The stream, a model, a mask source, the link's trace or the strategy cannot be used.
        EdgeAIError: A required package is missing.
    """
    testbed = Testbed(cfg, run.device, max_bytes=_ONE_RUN_BYTES)
    return play(testbed, cfg, folder=run.path, metrics=run.metrics)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit torch to one thread, so that the order of additions does not depend on the machine.

    The nets are so small that a second thread makes them slower.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def play(testbed: Testbed, cfg: CollabRunConfig, *, folder: Path | None, metrics: Metrics) -> RunReport:
    """Play the testbed's stream with one strategy.

    Args:
        testbed: Stream, edge and cloud; its config must have the same stream, edge and seed as `cfg`.
        cfg: Config of the run.
        folder: Folder for frames.jsonl and images; None writes neither.
        metrics: Receives progress.

    Raises:
        UsageError: The link's trace, the cloud or the strategy cannot be used.
    """
    begin_s = time.perf_counter()
    played = _build(testbed, settled(cfg), folder, metrics)
    interrupted = False
    try:
        played.pipeline.play(testbed.stream.frames())
    except KeyboardInterrupt:
        interrupted = True
    finally:
        played.writer.close()
    return played.report(interrupted=interrupted, begin_s=begin_s)


def _build(testbed: Testbed, cfg: CollabRunConfig, folder: Path | None, metrics: Metrics) -> _Played:
    """Build the pipeline of a run."""
    cloud, link_config = testbed.cloud(cfg.cloud), find_link(cfg.link)
    edge = EdgeDevice(copy.deepcopy(testbed.edge), cfg.miner, testbed.size_px, cfg.seed)
    times = _compute_times(cfg, edge, cloud, testbed)
    strategy = build_strategy(StrategyContext(cfg, edge, testbed.size_px, times.edge_s, link_config.delay_s))
    shadow = ShadowCloud(cloud, cfg.upload.quality, len(testbed.stream.classes))
    writer = RecordWriter(folder)
    with_shadow = cfg.shadow_cloud and strategy.uses_cloud_models
    outcomes = Outcomes(testbed.stream.classes, cfg.evaluate, writer, shadow.answer if with_shadow else None)
    probe = TransferProbe(edge, cfg.probe_frames)
    progress = _Progress(outcomes, metrics, testbed.stream.num_frames)

    def on_frame(frame: Frame) -> None:
        probe.see(frame)
        progress.count()

    def on_complete(state: FrameState) -> None:
        if folder is not None and state.index in cfg.overlays:
            save_overlay(state, folder)

    pipeline = Pipeline(
        edge=edge,
        answerer=cloud,
        strategy=strategy,
        link=Link(link_config, cfg.seed),
        times=times,
        upload=cfg.upload,
        deadline_s=cfg.evaluate.deadline_s,
        edge_queue_frames=cfg.edge_queue_frames,
        outcomes=outcomes,
        shadow=shadow,
        wall_pace=cfg.pace == "wall",
        on_frame=on_frame,
        on_complete=on_complete,
    )
    return _Played(cfg, testbed, edge, times, pipeline, outcomes, probe, writer)


def _compute_times(cfg: CollabRunConfig, edge: EdgeDevice, cloud: AnswerStore, testbed: Testbed) -> ComputeTimes:
    """Return the configured compute times; missing ones are measured on the first frame."""
    image, edge_s, cloud_s = testbed.first_image(), cfg.compute.edge_s, cfg.compute.cloud_s
    if edge_s is None:
        edge_s = measured_s(lambda: edge.run(image))
    if cloud_s is None:
        jpeg = encode_image(image, quality=cfg.upload.quality)
        cloud_s = measured_s(lambda: cloud.answerer(jpeg, testbed.size_px))
    return ComputeTimes(edge_s, cfg.compute.encode_s, cloud_s)


class _Progress:
    """Reports progress after each captured frame."""

    def __init__(self, outcomes: Outcomes, metrics: Metrics, num_frames: int | None) -> None:
        self._outcomes, self._metrics, self._num_frames = outcomes, metrics, num_frames
        self._number = 0

    def count(self) -> None:
        self._number += 1
        fields = {}
        if self._number % LOG_EVERY == 0:
            total = self._outcomes.evaluation().total
            fields = {"upload_rate": total.upload_rate}
            if total.quality is not None:
                fields["miou"] = total.quality.miou
            self._metrics.log(self._number, fields)
        self._metrics.progress("play", self._number, self._num_frames, unit="frames", **fields)


@dataclass(frozen=True)
class _Played:
    """The parts of a run that its report is made from."""

    cfg: CollabRunConfig
    testbed: Testbed
    edge: EdgeDevice
    times: ComputeTimes
    pipeline: Pipeline
    outcomes: Outcomes
    probe: TransferProbe
    writer: RecordWriter

    def report(self, *, interrupted: bool, begin_s: float) -> RunReport:
        """Return the report of the frames so far."""
        pipeline, training = self.pipeline, self.pipeline.training
        evaluation, score, edge_s = self.outcomes.evaluation(), self.outcomes.mean_score, self.outcomes.mean_edge_s
        cloud_s = None if evaluation.upload_latency is None else evaluation.upload_latency.mean_s
        soft = hard = None
        if edge_s is not None and cloud_s is not None:
            soft = None if score is None else soft_latency_s(score, edge_s=edge_s, cloud_s=cloud_s)
            hard = hard_latency_s(evaluation.total.upload_rate, edge_s=edge_s, cloud_s=cloud_s)
        bad = self.testbed.stream.problems
        transfer = self.probe.transfer()
        wall_s = time.perf_counter() - begin_s
        return RunReport(
            strategy=self.cfg.strategy,
            interrupted=interrupted,
            num_frames=pipeline.num_frames,
            num_bad_frames=len(bad),
            problems=tuple([*bad, *pipeline.cloud.problems][:MAX_PROBLEMS]),
            duration_s=pipeline.now_s,
            evaluation=evaluation,
            alone=self.outcomes.alone(),
            transfer=transfer,
            traffic=pipeline.traffic.summary(
                num_labeled=training.num_labeled, breaker_opened=pipeline.uplink.breaker.num_opened
            ),
            num_updates=training.num_updates,
            num_accepted=training.num_accepted,
            num_swaps=self.edge.num_swaps,
            updates=tuple(training.events),
            soft_latency_s=soft,
            hard_latency_s=hard,
            edge_s=self.times.edge_s,
            cloud_s=self.times.cloud_s,
            cost=Cost(wall_s, pipeline.num_frames / wall_s, peak_memory_bytes()),
        )
