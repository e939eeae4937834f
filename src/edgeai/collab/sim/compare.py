"""`edgeai collab compare`: run many strategies on the same recorded streams.

All strategies of a seed get the same frames and the same cloud answers, which are computed once. Each result is saved
at once, so that an interrupted comparison can be continued.

Run directory: STRATEGY-SEED/ (config.yaml of the run, frames.jsonl, overlays/, and report.json when it is done).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgeai.collab.config.run import CollabCompareConfig, CollabRunConfig, StrategyName
from edgeai.collab.policy.exploration import drawn_rate
from edgeai.collab.reports.compare_report import METRICS, CompareReport, Result, compare_report
from edgeai.collab.sim.run import play
from edgeai.collab.sim.testbed import Testbed
from edgeai.collab.streams.recorded import RecordedStream
from edgeai.core.config import dump_config
from edgeai.core.errors import EdgeAIError
from edgeai.core.files import json_text, write_whole
from edgeai.core.link import Link, find_link
from edgeai.core.metrics import Metrics
from edgeai.core.report.fields import about
from edgeai.core.run import Run
from edgeai.core.sweep import Sweep, all_failed, kept_report

MAX_RECORDED_BYTES = 512 << 20
MAX_ANSWER_BYTES = 256 << 20


@dataclass(frozen=True)
class ComparePlan:
    """Plan of a comparison."""

    num_runs: int = field(metadata=about("runs"))
    missing: tuple[str, ...] = field(metadata=about("runs left", meaning="STRATEGY-SEED"))
    num_frames: int | None = field(metadata=about("frames", meaning="of each stream; a dash: until the stream ends"))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def plan_compare(cfg: CollabCompareConfig, folder: Path | None, device: str) -> ComparePlan:
    """Return the plan, after opening stream and models as the runs would.

    Raises:
        UsageError: The stream or a model cannot be used.
        EdgeAIError: A required package is missing.
    """
    testbed = Testbed(_of(cfg, cfg.strategies[0], cfg.seeds[0]), device)
    names = [_name(strategy, seed) for seed in cfg.seeds for strategy in cfg.strategies]
    missing = [name for name in names if folder is None or not (folder / name / "report.json").exists()]
    return ComparePlan(len(names), tuple(missing), testbed.stream.num_frames)


def run_compare(cfg: CollabCompareConfig, run: Run) -> CompareReport:
    """Run what is missing, and report. After Ctrl-C, report the runs so far.

    Args:
        cfg: Config of the comparison.
        run: Run directory, possibly with results of earlier calls.

    Raises:
        UsageError: The stream or a model cannot be used.
        EdgeAIError: A required package is missing, or all runs failed.
    """
    sweep = Sweep(len(cfg.strategies) * len(cfg.seeds), run.metrics)
    interrupted = False
    try:
        for seed in cfg.seeds:
            _play_seed(cfg, run, seed, sweep)
    except KeyboardInterrupt:
        interrupted = True
        if not sweep.results:
            raise
    if not sweep.results:
        raise all_failed(sweep.failures)
    results: dict[str, dict[int, Result]] = {strategy: {} for strategy in cfg.strategies}
    for seed in cfg.seeds:
        for strategy in cfg.strategies:
            if _name(strategy, seed) in sweep.results:
                results[strategy][seed] = sweep.results[_name(strategy, seed)]
    return compare_report(
        results, seeds=cfg.seeds, against=cfg.against, failures=sweep.failures, interrupted=interrupted
    )


def _play_seed(cfg: CollabCompareConfig, run: Run, seed: int, sweep: Sweep) -> None:
    """Run all strategies on one stream."""
    testbed: Testbed | None = None
    for strategy in _in_order(cfg):
        name = _name(strategy, seed)
        folder = run.path / name
        try:
            played = _settled(cfg, strategy, seed, sweep)
            kept = kept_report(folder, played)
            if kept is not None:
                sweep.restore(name, kept)
                continue
            testbed = testbed or _build_testbed(cfg, seed, run.device)
            result = _play(testbed, played, folder, run, num_done=len(sweep.results))
        except EdgeAIError as error:
            if testbed is None:  # stream and models are shared: every other strategy would fail too
                raise
            sweep.fail(name, error.message)
        else:
            sweep.succeed(name, result, _in_short(result))


def _in_order(cfg: CollabCompareConfig) -> list[StrategyName]:
    """Return the strategies; the one whose upload rate random copies comes first."""
    return sorted(cfg.strategies, key=lambda strategy: strategy != cfg.equal_rate)


def _build_testbed(cfg: CollabCompareConfig, seed: int, device: str) -> Testbed:
    """Build what all strategies share, and reject what none could use."""
    testbed = Testbed(_of(cfg, cfg.strategies[0], seed), device, max_bytes=MAX_ANSWER_BYTES)
    testbed.stream = RecordedStream(testbed.stream, max_bytes=MAX_RECORDED_BYTES)
    testbed.cloud(cfg.run.cloud)
    Link(find_link(cfg.run.link), seed)
    return testbed


def _play(testbed: Testbed, played: CollabRunConfig, folder: Path, run: Run, *, num_done: int) -> Result:
    """Run one strategy and save its report.

    Raises:
        KeyboardInterrupt: The run was interrupted; nothing is saved.
    """
    folder.mkdir(exist_ok=True)
    (folder / "report.json").unlink(missing_ok=True)
    write_whole(folder / "config.yaml", dump_config(played))
    report = play(testbed, played, folder=folder, metrics=Metrics(None, listener=_Progress(run.metrics, folder.name)))
    if report.interrupted:
        raise KeyboardInterrupt
    text = json_text(report.to_json()) + "\n"
    write_whole(folder / "report.json", text)
    result: Result = json.loads(text)
    run.metrics.log(num_done + 1, asdict(report.cost))
    return result


def _in_short(result: Result) -> str:
    shown = {name: METRICS[metric].of(result) for name, metric in (("mIoU", "miou"), ("upload rate", "upload_rate"))}
    return ", ".join(f"{name} {value:.3f}" for name, value in shown.items() if value is not None)


def _settled(cfg: CollabCompareConfig, strategy: StrategyName, seed: int, sweep: Sweep) -> CollabRunConfig:
    """Return the config of one run.

    Raises:
        EdgeAIError: The strategy whose upload rate random copies has failed.
    """
    played = _of(cfg, strategy, seed)
    if strategy != "random" or cfg.equal_rate not in cfg.strategies:
        return played
    assert cfg.equal_rate is not None
    if _name(cfg.equal_rate, seed) in sweep.failures:
        raise EdgeAIError(f"it needs the upload rate of {cfg.equal_rate}, which failed")
    total = sweep.results[_name(cfg.equal_rate, seed)]["evaluation"]["total"]
    return played.model_copy(update={"upload_rate": drawn_rate(total["num_uploads"], total["num_frames"], seed)})


def _of(cfg: CollabCompareConfig, strategy: StrategyName, seed: int) -> CollabRunConfig:
    return cfg.run.model_copy(update={"strategy": strategy, "seed": seed})


def _name(strategy: str, seed: int) -> str:
    return f"{strategy}-{seed}"


class _Progress:
    """Forwards the progress of one run to the comparison's listener."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._metrics, self._name = metrics, name

    def on_progress(
        self, task: str, done: float, total: float | None, *, unit: str, fields: Mapping[str, float]
    ) -> None:
        self._metrics.progress(self._name, done, total, unit=unit, **fields)

    def on_note(self, text: str) -> None:
        self._metrics.note(text)

    def on_log(self, step: int, values: Mapping[str, float]) -> None:
        """Do nothing: the steps of a run are in its frames.jsonl."""
