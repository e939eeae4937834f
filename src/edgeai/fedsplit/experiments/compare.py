"""`edgeai fedsplit compare`: runs many variants in parallel processes and keeps each finished run."""

from __future__ import annotations

import concurrent.futures as futures
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from edgeai.core.checkpoint import STATE
from edgeai.core.config import dump_config, load_config
from edgeai.core.device import num_cores
from edgeai.core.errors import EdgeAIError
from edgeai.core.run import Run
from edgeai.core.sweep import Sweep, all_failed, child_run, kept_report
from edgeai.core.units import amount, duration
from edgeai.fedsplit.config.run import CompareConfig, SimConfig
from edgeai.fedsplit.reports.compare_report import CompareReport, Result, compare_report


@dataclass(frozen=True)
class Job:
    """One run of a comparison."""

    name: str
    """Name of its folder: METHOD-CUT-PARTITION-SEED, omitting what does not vary."""
    label: str
    """Name without the seed. Runs with the same label are averaged."""
    cfg: SimConfig


class ComparePlan(NamedTuple):
    """Runs of a comparison."""

    jobs: list[Job]
    missing: list[Job]
    """Runs without a report."""


def plan_compare(cfg: CompareConfig, folder: Path | None) -> ComparePlan:
    """Return all runs, and those that are not done yet.

    Args:
        cfg: The comparison.
        folder: Its run directory; None if there is none yet.
    """
    jobs = _jobs(cfg)
    missing = [job for job in jobs if folder is None or kept_report(folder / job.name, job.cfg) is None]
    return ComparePlan(jobs, missing)


def run_compare(cfg: CompareConfig, run: Run) -> CompareReport:
    """Run all methods, cuts, partitions and seeds of a comparison; finished runs of an earlier call are not repeated.

    An interrupted comparison keeps its finished runs and can be continued with --resume.

    Args:
        cfg: The comparison.
        run: Its run directory.

    Raises:
        EdgeAIError: All runs failed.
    """
    jobs, missing = plan_compare(cfg, run.path)
    sweep = Sweep(len(jobs), run.metrics)
    for job in jobs:
        kept = kept_report(run.path / job.name, job.cfg)
        if kept is not None:
            sweep.restore(job.name, kept)
    for job, failure in _run_missing(missing, run, cfg.processes or num_cores()):
        result = None if failure else kept_report(run.path / job.name, job.cfg)
        if result is None:
            sweep.fail(job.name, failure)
        else:
            sweep.succeed(job.name, result, _in_short(result))
    results = sweep.results
    if not results:
        raise all_failed(sweep.failures)
    return compare_report(
        [(job.label, job.cfg, dict(results[job.name])) for job in jobs if job.name in results], sweep.failures
    )


def _jobs(cfg: CompareConfig) -> list[Job]:
    """Return one job per variant and seed."""
    return [
        Job(f"{variant.label}-{seed}".replace(" ", "-"), variant.label, variant.config(cfg.sim, seed))
        for variant in _variants(cfg)
        for seed in cfg.seeds
    ]


@dataclass(frozen=True)
class _Variant:
    """One combination of method, cut and partition."""

    label: str
    method: Any
    cut: Any
    partition: Any

    def config(self, base: SimConfig, seed: int) -> SimConfig:
        """Return the config of a run of this variant."""
        changes = {"method": self.method, "cut": self.cut, "partition": self.partition, "seed": seed}
        return SimConfig.model_validate({**base.model_dump(), **_plain(changes)})


def _variants(cfg: CompareConfig) -> Iterator[_Variant]:
    """Yield all combinations; methods without a cut are combined with one cut only."""
    from edgeai.fedsplit.methods.build import (
        METHODS,  # imports torch, which a worker must not load before it ignores Ctrl-C
    )

    cuts = cfg.cuts or (cfg.sim.cut,)
    partitions = cfg.partitions or (cfg.sim.partition,)
    for partition in partitions:
        for method in cfg.methods:
            is_split = METHODS[method.kind].is_split
            for cut in cuts if is_split else cuts[:1]:
                words = [method.kind, *_options(method, cfg.methods)]
                if len(cuts) > 1 and is_split:
                    words.append(f"cut-{cut}")
                if len(partitions) > 1:
                    words += [partition.kind, *_options(partition, partitions)]
                yield _Variant(" ".join(words), method, cut, partition)


def _options(item: Any, items: tuple[Any, ...]) -> list[str]:
    """Return the options that distinguish an item from others of its kind."""
    alike = [other for other in items if other.kind == item.kind]
    if len(alike) == 1:
        return []
    fields = item.model_dump()
    return [
        f"{name}-{value}" for name, value in fields.items() if any(other.model_dump()[name] != value for other in alike)
    ]


def _plain(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: item.model_dump() if hasattr(item, "model_dump") else item for name, item in changes.items()}


def _run_missing(jobs: list[Job], run: Run, processes: int) -> Iterator[tuple[Job, str]]:
    """Run jobs in worker processes; yield each job as it ends, with its error message or ""."""
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")  # a forked worker would inherit locks held by torch's threads
    pool = futures.ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context, initializer=_begin_worker)
    try:
        waiting = {
            pool.submit(_run_job, dump_config(job.cfg), str(run.path / job.name), run.device): job for job in jobs
        }
        for done in futures.as_completed(waiting):
            try:
                failure = done.result()
            except BrokenProcessPool:  # raised for all jobs that are not done
                failure = "a worker process was killed; if memory is short, lower processes"
            yield waiting[done], failure
        pool.shutdown()
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _begin_worker() -> None:
    """Set up a worker: one thread, Ctrl-C left to the parent, and exit when the parent is gone."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """Exit when the parent does: a killed parent cannot end its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_job(config_text: str, folder: str, device: str) -> str:
    """Run or resume one job in a worker; return its error message, or "" if its report is written."""
    from edgeai.fedsplit.experiments.simulate import simulate

    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    config = path / "config.yaml"
    is_resumed = config.exists() and config.read_text(encoding="utf-8") == config_text and (path / STATE).exists()
    if not is_resumed:
        for stale in (STATE, "metrics.jsonl", "run.json", "report.json"):
            (path / stale).unlink(missing_ok=True)
    config.write_text(config_text, encoding="utf-8")
    cfg = load_config(SimConfig, config)
    argv = ["edgeai", "fedsplit", "compare"]
    try:
        with child_run(cfg, path, argv=argv, device=device, device_why="of the comparison", threads=1) as run:
            run.finish("done", simulate(cfg, run, resume=is_resumed).to_json())
    except EdgeAIError as error:
        return error.message
    except Exception as error:
        return f"bug: {type(error).__name__}: {error}"
    return ""


def _in_short(result: Result) -> str:
    num_bytes = sum(result["bytes_up"].values()) + sum(result["bytes_down"].values())
    time = duration(result["seconds"])
    return f"accuracy {result['accuracy']:.2%}, {amount(num_bytes, 'B')}, {time} of virtual time"
