"""Seconds a round on the three backends, and split learning over streams against plain messages, in one go.

    python tests/benchmarks/fedsplit_backends.py                 # minutes: every backend is started once
    python tests/benchmarks/fedsplit_backends.py --clients 2 --batch 256 --rounds 2

A round's time is taken between the ends of two rounds, so that starting Ray and the SuperNodes does not count.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from edgeai.core.metrics import read_metrics
from edgeai.core.run import Run
from edgeai.fedsplit.backend_schema import FlowerSimConfig
from edgeai.fedsplit.flower.deployment import submit
from edgeai.fedsplit.flower.home import start, stop
from edgeai.fedsplit.flower.launch import train_on_ray
from edgeai.fedsplit.flower.simulation import on_ray
from edgeai.fedsplit.schema import SimConfig
from edgeai.fedsplit.simulate import run_sim

METHODS: tuple[dict[str, Any], ...] = ({"kind": "fedavg"}, {"kind": "splitfed-v2"}, {"kind": "cse-fsl", "h": 2})


class Bench:
    """Runs and their times."""

    def __init__(self, asked: argparse.Namespace, folder: Path) -> None:
        self.asked, self.folder, self.hashes = asked, folder, dict[str, set[str]]()
        self._num_runs = 0

    def make(self, method: dict[str, Any], backend: dict[str, Any], rounds: int | None = None) -> tuple[Any, Run]:
        cfg = SimConfig.model_validate(
            {
                "method": method,
                "backend": backend,
                "num_clients": self.asked.clients,
                "batch": self.asked.batch,
                "rounds": rounds or self.asked.rounds,
                "eval_every": 1000,
            }
        )
        self._num_runs += 1
        out = self.folder / f"run{self._num_runs}"
        return cfg, Run.create(cfg, out=out, argv=["bench"], device="cpu", device_why="bench")

    def seconds(self, run: Run) -> float:
        ends = [row["time_s"] for row in read_metrics(run.path)]
        return (ends[-1] - ends[0]) / (len(ends) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    asked = parser.parse_args()
    table: dict[str, dict[str, float]] = {method["kind"]: {} for method in METHODS}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(asked, Path(folder))
        for method in METHODS:
            cfg, run = bench.make(method, {"kind": "inproc"})
            run_sim(cfg, run)
            table[method["kind"]]["inproc"] = bench.seconds(run)
        backend = FlowerSimConfig()
        made = [bench.make(method, backend.model_dump()) for method in METHODS]
        on_ray(backend, asked.clients, lambda grid, _: [train_on_ray(cfg, backend, run, grid) for cfg, run in made])
        for cfg, run in made:
            table[cfg.method.kind]["flower-sim"] = bench.seconds(run)
        home = start(Path(folder) / "home", asked.clients)
        try:
            where = {"kind": "flower", "home": str(home.path), "silence_s": 600.0, "start_s": 600.0}
            made = [bench.make(method, where) for method in METHODS]
            submit(home, [run for _, run in made])
            for cfg, run in made:
                table[cfg.method.kind]["flower"] = bench.seconds(run)
            both = [bench.make(METHODS[1], {**where, "transport": way}, 2) for way in ("stream", "message")]
            submit(home, [run for _, run in both])
            per_exchange = {
                way: bench.seconds(run) / (json.loads((run.path / "wire.json").read_text())["num_exchanges"] / 2)
                for way, (_, run) in zip(("stream", "message"), both, strict=True)
            }
        finally:
            stop(home.path)
    print("| method | inproc | flower-sim | flower |\n|---|---|---|---|")
    for kind, row in table.items():
        cells = [
            f"{row[name]:.2f} s ({row[name] / row['inproc']:.0f} x)" for name in ("inproc", "flower-sim", "flower")
        ]
        print(f"| {kind} | {' | '.join(cells)} |")
    for way, seconds in per_exchange.items():
        print(f"splitfed-v2, deployment engine, {way}: {1000 * seconds:.0f} ms an exchange")
    print(f"stream over message: {per_exchange['message'] / per_exchange['stream']:.0f} times as fast")


if __name__ == "__main__":
    main()
