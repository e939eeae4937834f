"""`edgeai fedsplit compare`: many runs beside each other, over processes, each kept as soon as it is done."""

from __future__ import annotations

import concurrent.futures as futures
import json
import multiprocessing
import os
import threading
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeai.core.config import dump_config, load_config
from edgeai.core.device import num_cores
from edgeai.core.errors import EdgeAIError
from edgeai.core.run import Run
from edgeai.fedsplit.config.run import CompareConfig, SimConfig
from edgeai.fedsplit.reports.compare_report import CompareReport, Result, compare_report


@dataclass(frozen=True)
class Job:
    """One run of a comparison."""

    name: str
    """Of its folder: METHOD-CUT-PARTITION-SEED, as far as these vary."""
    label: str
    """The same without the seed: what is averaged over seeds."""
    cfg: SimConfig


def plan_compare(cfg: CompareConfig, folder: Path | None) -> tuple[list[Job], list[Job]]:
    """All runs, and those of them that are still to be done."""
    jobs = list(_jobs(cfg).values())
    return jobs, [job for job in jobs if folder is None or _kept(folder / job.name, job.cfg) is None]


def run_compare(cfg: CompareConfig, run: Run) -> CompareReport:
    """Plays what is missing. Stopped by Ctrl-C, the runs until then are kept, and `--resume` goes on with them.

    Args:
        cfg: What to compare.
        run: Run directory, of which a part may be there already.

    Raises:
        EdgeAIError: Every run failed.
    """
    jobs, missing = plan_compare(cfg, run.path)
    failures: dict[str, str] = {}
    num_done = len(jobs) - len(missing)
    run.metrics.progress("compare", num_done, len(jobs), unit="runs")
    for name, result, failure in _play(missing, run, cfg.processes or num_cores()):
        num_done += 1
        if failure:
            failures[name] = failure
        run.metrics.note(f"{name}: {failure or _in_short(result)}")
        run.metrics.progress("compare", num_done, len(jobs), unit="runs")
    results = {job.name: result for job in jobs if (result := _kept(run.path / job.name, job.cfg)) is not None}
    if not results:
        raise EdgeAIError(f"every run failed, the first one so: {next(iter(failures.values()))}")
    return compare_report([(job.label, job.cfg, results[job.name]) for job in jobs if job.name in results], failures)


def _jobs(cfg: CompareConfig) -> dict[str, Job]:
    """By name; methods without a cut come once, whatever the cuts."""
    from edgeai.fedsplit.methods.build import METHODS

    cuts = cfg.cuts or (cfg.sim.cut,)
    partitions = cfg.partitions or (cfg.sim.partition,)
    jobs: dict[str, Job] = {}
    for partition in partitions:
        for method in cfg.methods:
            for cut in cuts if METHODS[method.kind].is_split else cuts[:1]:
                named = [method.kind, *_options(method, cfg.methods)]
                if len(cuts) > 1 and METHODS[method.kind].is_split:
                    named.append(f"cut-{cut}")
                if len(partitions) > 1:
                    named += [partition.kind, *_options(partition, partitions)]
                label = " ".join(named)
                for seed in cfg.seeds:
                    changes = {"method": method, "cut": cut, "partition": partition, "seed": seed}
                    one = SimConfig.model_validate({**cfg.sim.model_dump(), **_plain(changes)})
                    name = f"{label}-{seed}".replace(" ", "-")
                    jobs[name] = Job(name, label, one)
    return jobs


def _options(item: Any, items: tuple[Any, ...]) -> list[str]:
    """What tells an item from others of its kind."""
    alike = [other for other in items if other.kind == item.kind]
    if len(alike) == 1:
        return []
    fields = item.model_dump()
    return [
        f"{name}-{value}" for name, value in fields.items() if any(other.model_dump()[name] != value for other in alike)
    ]


def _plain(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: item.model_dump() if hasattr(item, "model_dump") else item for name, item in changes.items()}


def _play(jobs: list[Job], run: Run, processes: int) -> Any:
    """Plays jobs in other processes; yields (name, result, failure) as they end."""
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")  # a fork would share the threads' locks of torch
    pool = futures.ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context, initializer=_begin_worker)
    try:
        waiting = {
            pool.submit(_play_one, dump_config(job.cfg), str(run.path / job.name), run.device): job for job in jobs
        }
        for done in futures.as_completed(waiting):
            try:
                result, failure = done.result()
            except BrokenProcessPool:  # all that still wait end so, too
                result, failure = None, "a worker was ended from outside; if memory is short, lower processes"
            yield waiting[done].name, result, failure
        pool.shutdown()
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _begin_worker() -> None:
    """In a worker: one thread for each process, Ctrl-C is the parent's affair, and nobody outlives the parent."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """A parent that is killed cannot end its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _play_one(config_text: str, folder: str, device: str) -> tuple[Result | None, str]:
    """In a worker: plays one run, going on where it was left; returns its result, or why there is none."""
    from edgeai.fedsplit.experiments.simulate import simulate

    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    config = path / "config.yaml"
    goes_on = config.exists() and config.read_text(encoding="utf-8") == config_text and (path / "state.pt").exists()
    if not goes_on:
        for stale in ("state.pt", "metrics.jsonl", "run.json", "report.json"):
            (path / stale).unlink(missing_ok=True)
    cfg = load_config(SimConfig, _written(config, config_text))
    if (path / "run.json").exists():
        run = Run.open(path)
        run.go_on(["edgeai", "fedsplit", "compare"], device=device, device_why="of the comparison", threads=1)
    else:
        run = Run.create(
            cfg,
            out=path,
            argv=["edgeai", "fedsplit", "compare"],
            device=device,
            device_why="of the comparison",
            threads=1,
        )
    try:
        report = simulate(cfg, run, resume=goes_on)
    except EdgeAIError as error:
        run.finish("failed")
        return None, error.message
    except Exception as error:
        run.finish("failed")
        return None, f"bug: {type(error).__name__}: {error}"
    run.finish("done", report.to_json())
    return report.to_json(), ""


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _kept(folder: Path, cfg: SimConfig) -> Result | None:
    """The result of an earlier call, if it is of the same config and was done."""
    report, config, info = folder / "report.json", folder / "config.yaml", folder / "run.json"
    if not (report.exists() and config.exists() and info.exists()):
        return None
    if config.read_text(encoding="utf-8") != dump_config(cfg):
        return None
    if json.loads(info.read_text(encoding="utf-8"))["status"] != "done":
        return None
    found: Result = json.loads(report.read_text(encoding="utf-8"))
    return found


def _in_short(result: Result) -> str:
    num_bytes = sum(result["bytes_up"].values()) + sum(result["bytes_down"].values())
    return f"accuracy {result['accuracy']:.2%}, {num_bytes / 1e6:,.1f} MB, {result['seconds']:,.1f} virtual seconds"
