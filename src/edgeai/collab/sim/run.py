"""`edgeai collab run`: build what a config asks for, play the stream, and report.

Run directory: frames.jsonl (a line per frame), overlays/NUMBER.npz (pictures of chosen frames), report.json.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch

from edgeai.collab.cloud.answer import Answerer, AnswerStore, CloudAnswer, CloudModels
from edgeai.collab.config.models import CloudConfig, EdgeCopy, StreetNetModel
from edgeai.collab.config.run import CollabRunConfig
from edgeai.collab.edge.device import EdgeDevice
from edgeai.collab.metrics.theory import hard_latency_s, soft_latency_s
from edgeai.collab.models.build import ModelConfig, SegModel, build_model, build_semantics
from edgeai.collab.models.class_map import ClassMap
from edgeai.collab.models.inputs import InputFormat
from edgeai.collab.models.masks import build_masks
from edgeai.collab.models.seg_model import TorchModel
from edgeai.collab.models.street_net import StreetNet, StreetNetShape
from edgeai.collab.reports.frame_records import OVERLAYS, RecordWriter
from edgeai.collab.reports.run_report import Cost, RunReport
from edgeai.collab.sim.frame_state import InPlay
from edgeai.collab.sim.outcome import Outcomes
from edgeai.collab.sim.pipeline import MAX_PROBLEMS, Pipeline, Times, shadow_answer
from edgeai.collab.sim.probe import TransferProbe
from edgeai.collab.strategies.build import Parts, build_strategy, settled
from edgeai.collab.streams.build import build_stream
from edgeai.collab.streams.stream import Stream
from edgeai.collab.wire.codec import encode_image
from edgeai.core.device import peak_memory_bytes
from edgeai.core.errors import UsageError
from edgeai.core.link import Link, find_link
from edgeai.core.metrics import Metrics
from edgeai.core.run import Run

FRESH = StreetNetShape(num_classes=0, width=16, depth=1)
"""The net of weights: fresh, but for its classes."""
LOG_EVERY = 50
"""Frames between lines of metrics.jsonl."""
_MEASURED = 5
_ONE_RUN_BYTES = 4 << 20  # a run asks again only about frames of the last moments


def run_collab(cfg: CollabRunConfig, run: Run) -> RunReport:
    """Plays a stream through edge, link and cloud. Stopped by Ctrl-C, it reports the frames until then.

    Args:
        cfg: What to play.
        run: Run directory.

    Raises:
        UsageError: The stream, a model, a mask source, the link's trace or the strategy cannot be used.
        EdgeAIError: A package that they need is missing.
    """
    return play(Bench(cfg, run.device, max_bytes=_ONE_RUN_BYTES), cfg, folder=run.path, metrics=run.metrics)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keeps torch to one thread: more would add in another order, so that results would depend on the machine.

    These nets are also so small that a second thread makes them slower.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class Bench:
    """What runs with the same stream, edge and cloud share: `play` may be called with many strategies in turn.

    Args:
        cfg: Names stream, edge and cloud.
        device: The torch device.
        max_bytes: Memory for the cloud's answers, which are worked out once for all strategies.
    """

    cfg: CollabRunConfig
    device: str
    max_bytes: int = 64 << 20
    stream: Stream = field(init=False)
    edge: SegModel = field(init=False)
    """As it is before any run; never changed."""

    def __post_init__(self) -> None:
        self.stream = build_stream(self.cfg.stream, self.cfg.seed)
        self.edge = self._model(self.cfg.edge.model)
        self._clouds: dict[str, AnswerStore] = {}

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.stream.height, self.stream.width

    def cloud(self, config: CloudConfig) -> AnswerStore:
        """The cloud that a config asks for; built once."""
        key = config.model_dump_json()
        if key not in self._clouds:
            semantics = self._semantics(config)
            models = CloudModels(semantics, build_masks(config.masks, self.device), config.fusion)
            models.answer(encode_image(self.first_image(), quality=90), self.size_px)  # refuses what does not run
            self._clouds[key] = AnswerStore(models.answer, max_bytes=self.max_bytes)
        return self._clouds[key]

    def first_image(self) -> np.ndarray:
        """The first frame [H,W,3].

        Raises:
            UsageError: The stream has none.
        """
        frame = next(self.stream.frames(), None)
        if frame is None:
            raise UsageError("the stream has no frame that can be read", hint="look at the files it names")
        return frame.image

    def _semantics(self, config: CloudConfig) -> SegModel:
        if isinstance(config.semantics, EdgeCopy):
            return build_semantics(config.semantics, self.edge, self.stream.classes, self.device, size_px=self.size_px)
        return self._model(config.semantics)

    def _model(self, config: ModelConfig) -> SegModel:
        if isinstance(config, StreetNetModel) and config.weights == "fresh":
            return fresh_net(self.stream.classes, self.device, self.cfg.seed)
        return build_model(config, self.stream.classes, self.device, size_px=self.size_px)


def fresh_net(classes: tuple[str, ...], device: str, seed: int) -> TorchModel:
    """A very small untrained street net, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = StreetNet(StreetNetShape(len(classes), FRESH.width, FRESH.depth)).eval().to(device)
    same = ClassMap([(place,) for place in range(len(classes))], len(classes))
    return TorchModel(net, classes=classes, class_map=same, input_format=InputFormat(), device=device)


@_one_thread()
def play(bench: Bench, cfg: CollabRunConfig, *, folder: Path | None, metrics: Metrics) -> RunReport:
    """Plays the bench's stream with one strategy.

    Args:
        bench: Stream, edge and cloud; its config and `cfg` must agree on the first two, and on the seed.
        cfg: Strategy, link and all the rest.
        folder: Where frames.jsonl and pictures go; None keeps neither.
        metrics: Hears of progress.

    Raises:
        UsageError: The link's trace, the cloud or the strategy cannot be used.
    """
    begin_s = time.perf_counter()
    cfg = settled(cfg)
    cloud, link = bench.cloud(cfg.cloud), Link(find_link(cfg.link), cfg.seed)
    edge = EdgeDevice(copy.deepcopy(bench.edge), cfg.miner, bench.size_px, cfg.seed)
    times = _times(cfg, edge, cloud, bench.first_image())
    parts = Parts(cfg, edge, bench.size_px, times.edge_s, find_link(cfg.link).delay_s)
    strategy = build_strategy(parts)
    writer = RecordWriter(folder)
    outcomes = Outcomes(bench.stream.classes, cfg.evaluate, writer, _shadow(cfg, cloud))
    probe = TransferProbe(edge, cfg.probe_frames)
    pipeline = Pipeline(
        cfg,
        edge=edge,
        answerer=cloud,
        strategy=strategy,
        link=link,
        times=times,
        outcomes=outcomes,
        probe=probe,
        on_frame=lambda number: _progress(number, bench.stream, outcomes, metrics),
        on_complete=lambda played: _keep_picture(played, cfg, folder),
    )
    interrupted = False
    try:
        pipeline.play(bench.stream.frames())
    except KeyboardInterrupt:
        interrupted = True
    finally:
        writer.close()
    return _report(cfg, bench, pipeline, outcomes, probe, times, interrupted=interrupted, begin_s=begin_s)


def _times(cfg: CollabRunConfig, edge: EdgeDevice, cloud: AnswerStore, image: np.ndarray) -> Times:
    given = cfg.compute
    edge_s = given.edge_s if given.edge_s is not None else _measured_s(lambda: edge.run(image))
    cloud_s = given.cloud_s
    if cloud_s is None:
        jpeg, size_px = encode_image(image, quality=cfg.upload.quality), (image.shape[0], image.shape[1])
        cloud_s = _measured_s(lambda: cloud.answerer(jpeg, size_px))
    return Times(edge_s, given.encode_s, cloud_s)


def _measured_s(work: Callable[[], object]) -> float:
    """Median of a few times, the first one left out."""
    taken = []
    for _ in range(_MEASURED + 1):
        begin_s = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin_s)
    return statistics.median(taken[1:])


def _shadow(cfg: CollabRunConfig, answerer: Answerer) -> Callable[[InPlay], CloudAnswer] | None:
    """For the report; neurosurgeon's cloud is the edge model itself, so there the cloud's models say nothing."""
    if not cfg.shadow_cloud or cfg.strategy == "neurosurgeon":
        return None
    return lambda played: shadow_answer(played, answerer, cfg.upload.quality)


def _progress(number: int, stream: Stream, outcomes: Outcomes, metrics: Metrics) -> None:
    fields = {}
    if number % LOG_EVERY == 0:
        total = outcomes.evaluation().total
        fields = {"upload_rate": total.upload_rate}
        if total.quality is not None:
            fields["miou"] = total.quality.miou
        metrics.log(number, fields)
    metrics.progress("play", number, stream.num_frames, unit="frames", **fields)


def _keep_picture(played: InPlay, cfg: CollabRunConfig, folder: Path | None) -> None:
    """What the report's strip shows of a chosen frame: arrays [H,W,...] by name, those that there are."""
    if folder is None or played.index not in cfg.overlays:
        return
    (folder / OVERLAYS).mkdir(exist_ok=True)
    planes = {
        "frame": played.frame.image,
        "truth": played.frame.labels,
        "edge": played.edge_labels,
        "semantics": None if played.cloud is None else played.cloud.semantics,
        "fused": None if played.cloud is None else played.cloud.labels,
        "shown": played.shown,
    }
    found = {name: cast(np.ndarray, plane) for name, plane in planes.items() if plane is not None}
    np.savez_compressed(folder / OVERLAYS / f"{played.index:06d}.npz", allow_pickle=False, **found)


def _report(
    cfg: CollabRunConfig,
    bench: Bench,
    pipeline: Pipeline,
    outcomes: Outcomes,
    probe: TransferProbe,
    times: Times,
    *,
    interrupted: bool,
    begin_s: float,
) -> RunReport:
    evaluation, training = outcomes.evaluation(), pipeline.training
    edge_s, score = outcomes.mean_edge_s, outcomes.mean_score
    cloud_s = None if evaluation.upload_latency is None else evaluation.upload_latency.mean_s
    soft = hard = None
    if edge_s is not None and cloud_s is not None:
        soft = None if score is None else soft_latency_s(score, edge_s=edge_s, cloud_s=cloud_s)
        hard = hard_latency_s(evaluation.total.upload_rate, edge_s=edge_s, cloud_s=cloud_s)
    bad = bench.stream.problems
    transfer = probe.transfer()
    wall_s = time.perf_counter() - begin_s
    return RunReport(
        strategy=cfg.strategy,
        interrupted=interrupted,
        num_frames=pipeline.num_frames,
        num_bad_frames=len(bad),
        problems=tuple([*bad, *pipeline.problems][:MAX_PROBLEMS]),
        duration_s=pipeline.now_s,
        evaluation=evaluation,
        alone=outcomes.alone(),
        transfer=transfer,
        traffic=pipeline.traffic.summary(breaker_opened=pipeline.uplink.breaker.num_opened),
        num_updates=training.num_updates,
        num_accepted=training.num_accepted,
        num_swaps=pipeline.num_swaps,
        updates=tuple(training.events),
        soft_latency_s=soft,
        hard_latency_s=hard,
        edge_s=times.edge_s,
        cloud_s=times.cloud_s,
        cost=Cost(wall_s, pipeline.num_frames / wall_s, peak_memory_bytes()),
    )
