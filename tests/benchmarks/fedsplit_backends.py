"""Seconds a round on the three backends, and split learning over streams against plain messages, in one go.

    python tests/benchmarks/fedsplit_backends.py                 # about 20 minutes, most of it plain messages

A round's time is taken between the ends of two rounds, so that starting Ray and the SuperNodes does not count.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from edgeai.core.metrics import read_metrics
from edgeai.core.run import Run
from edgeai.fedsplit.config.backend import FlowerSimConfig
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.experiments.simulate import simulate
from edgeai.fedsplit.flower.launch import train_on_ray
from edgeai.fedsplit.flower.local_deployment.home import Home
from edgeai.fedsplit.flower.local_deployment.start_stop import start, stop
from edgeai.fedsplit.flower.simulation import on_ray
from edgeai.fedsplit.flower.submit import submit

_IS_TIMED = re.compile("devices, transport |round [0-9]+/")  # a round begins, and ends, with such a line in log.txt
METHODS: tuple[dict[str, Any], ...] = ({"kind": "fedavg"}, {"kind": "splitfed-v2"}, {"kind": "cse-fsl", "h": 2})


class Bench:
    """Runs and their times."""

    def __init__(self, folder: Path, clients: int, batch: int, rounds: int) -> None:
        self.folder, self.clients, self.batch, self.rounds = folder, clients, batch, rounds
        self._num_runs = 0

    def make(self, method: dict[str, Any], backend: dict[str, Any]) -> tuple[SimConfig, Run]:
        cfg = SimConfig.model_validate(
            {
                "method": method,
                "backend": backend,
                "num_clients": self.clients,
                "batch": self.batch,
                "rounds": self.rounds,
                "eval_every": 1000,
            }
        )
        self._num_runs += 1
        out = self.folder / f"run{self._num_runs}"
        return cfg, Run.create(cfg, out=out, argv=["bench"], device="cpu", device_why="bench")

    def seconds(self, run: Run) -> list[float]:
        """Of each round but the first."""
        ends_s = [row["time_s"] for row in read_metrics(run.path)]
        return [after - before for before, after in pairwise(ends_s)]


@contextmanager
def deployed(path: Path, clients: int) -> Iterator[tuple[Home, dict[str, Any]]]:
    """A deployment, and the backend that uses it."""
    home = start(path, clients)
    try:
        yield home, {"kind": "flower", "home": str(path), "silence_s": 900.0, "start_s": 900.0, "min_nodes": clients}
    finally:
        stop(path)


def three_backends(folder: Path, asked: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Seconds of rounds by method and backend."""
    bench = Bench(folder, asked.clients, asked.batch, asked.rounds)
    table: dict[str, dict[str, list[float]]] = {method["kind"]: {} for method in METHODS}
    for method in METHODS:
        cfg, run = bench.make(method, {"kind": "inproc"})
        simulate(cfg, run)
        table[method["kind"]]["inproc"] = bench.seconds(run)
    backend = FlowerSimConfig()
    made = [bench.make(method, backend.model_dump()) for method in METHODS]
    on_ray(backend, asked.clients, lambda grid, _: [train_on_ray(cfg, backend, run, grid) for cfg, run in made])
    for cfg, run in made:
        table[cfg.method.kind]["flower-sim"] = bench.seconds(run)
    with deployed(folder / "five", asked.clients) as (home, where):
        made = [bench.make(method, where) for method in METHODS]
        submit(home, [run for _, run in made])
    for cfg, run in made:
        table[cfg.method.kind]["flower"] = bench.seconds(run)
    return table


def two_ways(folder: Path, asked: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of SplitFed V2's rounds by streams and by plain messages, which take minutes: one round of them."""
    found = {}
    with deployed(folder / "two", asked.way_clients) as (home, where):
        for way, rounds in (("stream", 3), ("message", 1)):
            bench = Bench(folder / way, asked.way_clients, asked.way_batch, rounds)
            _, run = bench.make({"kind": "splitfed-v2"}, {**where, "transport": way})
            submit(home, [run])
            lines = [line for line in (run.path / "log.txt").read_text().splitlines() if _IS_TIMED.search(line)]
            ends = [datetime.fromisoformat(line[:19]) for line in lines]
            found[way] = [(after - before).total_seconds() for before, after in pairwise(ends)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--way-clients", type=int, default=2, help="Of streams against messages.")
    parser.add_argument("--way-batch", type=int, default=16)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = three_backends(folder, asked)
        print("| method | inproc | flower-sim | flower |\n|---|---|---|---|")
        for kind, row in table.items():
            cells = [_cell(row[name], statistics.median(row["inproc"])) for name in ("inproc", "flower-sim", "flower")]
            print(f"| `{kind}` | {' | '.join(cells)} |", flush=True)
        ways = two_ways(folder, asked)
    for way, seconds in ways.items():
        print(f"splitfed-v2 of {asked.way_clients} clients at batch {asked.way_batch}, by {way}: {seconds} s a round")
    ratio = statistics.median(ways["message"]) / statistics.median(ways["stream"])
    print(f"a round by stream is {ratio:.0f} times as fast")


def _cell(seconds: list[float], inproc_s: float) -> str:
    median_s = statistics.median(seconds)
    return f"{median_s:.2f} s ({min(seconds):.2f}-{max(seconds):.2f}), {median_s / inproc_s:.1f} x"


if __name__ == "__main__":
    main()
