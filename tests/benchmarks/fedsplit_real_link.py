"""A real shaped link between devices that are machines of their own, against the virtual clock's prediction.

    sudo python tests/benchmarks/fedsplit_real_link.py            # Linux, root, ip and tc; a quarter of an hour

Each device lives in a network namespace. Its link to the server is a veth pair, shaped in both directions by a token
bucket (tc tbf). Everything else is as on real machines: a SuperLink with TLS, a SuperNode a device, a stream a round.

A round's prediction is made before it is played: the virtual clock knows the link from what tc was told, and the device
from a calibration without shaping, of the same method: how fast it computes, and what it takes until its first word.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from edgeai.core.metrics import read_metrics
from edgeai.core.run import Run
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.experiments.simulate import simulate
from edgeai.fedsplit.flower.local_deployment.home import Home
from edgeai.fedsplit.flower.local_deployment.security import self_signed
from edgeai.fedsplit.flower.local_deployment.start_stop import start, stop
from edgeai.fedsplit.flower.submit import submit
from edgeai.fedsplit.reports.run_report import SimReport

METHODS = ("splitfed-v2", "psl")
SHAPES = ((300e3, 1.2e6), (300e3, 300e3))
"""Up and down, in bit/s, as tc is told."""
_CALIBRATION_ROUNDS = 6  # a SuperNode looks for messages every three seconds, so that single rounds differ
GOODPUT_FRAC = 1448 / 1514
"""What TCP over IPv4 leaves of a full Ethernet frame; tc counts frames, the link model counts messages."""
BURST_BYTES = 4096
"""Of the token bucket."""
SERVER = "10.77.0.1"
POWER = {"compute_w": 5.0, "idle_w": 2.0, "tx_w": 3.0, "rx_w": 3.0, "memory_bytes": 1 << 30}


@dataclass(frozen=True)
class Device:
    """What the calibration says of the devices of a method."""

    flops_per_s: float
    start_s: float


class Net:
    """A bridge, and for each device a namespace with a link to it."""

    def __init__(self, num_devices: int) -> None:
        self.devices = range(num_devices)

    def make(self) -> None:
        self.drop()
        _ip("link add edgeai type bridge")
        _ip(f"addr add {SERVER}/24 dev edgeai")
        _ip("link set edgeai up")
        for device in self.devices:
            space = f"edgeai{device}"
            _ip(f"netns add {space}")
            _ip(f"link add e{space} type veth peer name eth0 netns {space}")
            _ip(f"link set e{space} master edgeai up")
            _ip(f"-n {space} addr add 10.77.0.{device + 10}/24 dev eth0")
            _ip(f"-n {space} link set eth0 up")
            _ip(f"-n {space} link set lo up")

    def shape(self, up_bps: float, down_bps: float) -> None:
        for device in self.devices:
            for tc, name, bps in (
                (("tc", "-n", f"edgeai{device}"), "eth0", up_bps),
                (("tc",), f"eedgeai{device}", down_bps),
            ):
                bucket = f"tbf rate {int(bps)}bit burst {BURST_BYTES} latency 5s"
                _run(*tc, "qdisc", "replace", "dev", name, "root", *bucket.split())

    def drop(self) -> None:
        for device in self.devices:
            subprocess.run(["ip", "netns", "del", f"edgeai{device}"], capture_output=True)
        subprocess.run(["ip", "link", "del", "edgeai"], capture_output=True)


class Bench:
    """Runs on the deployment, and what the clock says of them."""

    def __init__(self, home: Home, folder: Path, asked: argparse.Namespace) -> None:
        self.home, self.folder, self.asked, self._num_runs = home, folder, asked, 0

    def config(
        self, method: str, backend: dict[str, Any], device: Device, shape: tuple[float, float] | None
    ) -> SimConfig:
        link = "perfect"
        if shape is not None:
            up_bps, down_bps = (GOODPUT_FRAC * bps for bps in shape)
            link = {
                "up_bps": up_bps,
                "down_bps": down_bps,
                "delay_s": 0.0,
                "burst_bytes": int(GOODPUT_FRAC * BURST_BYTES),
            }
        board = {**POWER, "flops_per_s": device.flops_per_s, "start_s": device.start_s}
        server = {**POWER, "flops_per_s": device.flops_per_s}
        return SimConfig.model_validate(
            {
                "method": {"kind": method},
                "backend": backend,
                "num_clients": self.asked.clients,
                "batch": self.asked.batch,
                "rounds": self.asked.rounds,
                "eval_every": 1000,
                "world": {"devices": [board], "links": [link], "server": {"device": server}},
            }
        )

    def real_s(self, method: str, rounds: int | None = None) -> list[float]:
        """Seconds of each round but the first on the deployment, over whatever link there is."""
        backend = {
            "kind": "flower",
            "home": str(self.home.path),
            "silence_s": 900.0,
            "start_s": 900.0,
            "stream_host": SERVER,
            "min_nodes": self.asked.clients,
        }
        cfg = self.config(method, backend, Device(1e9, 0.0), None)
        run = self._new(cfg.model_copy(update={"rounds": rounds or cfg.rounds}))
        submit(self.home, [run])
        ends_s = [row["time_s"] for row in read_metrics(run.path)]
        return [after - before for before, after in pairwise(ends_s)]

    def virtual(self, method: str, device: Device, shape: tuple[float, float] | None) -> tuple[float, SimReport, float]:
        """The clock's seconds of a round, the report, and how long the simulation itself took a round."""
        cfg = self.config(method, {"kind": "inproc"}, device, shape)
        begin_s = time.perf_counter()
        report = simulate(cfg, self._new(cfg))
        lasted_s = (time.perf_counter() - begin_s) / self.asked.rounds
        return (report.rounds[-1].end_s - report.rounds[0].end_s) / (self.asked.rounds - 1), report, lasted_s

    def calibrate(self, method: str) -> tuple[Device, float]:
        """Without shaping: speed from one process, and from the deployment what is left of a round besides."""
        flops_per_s = 1e9
        serial_s, _, lasted_s = self.virtual(method, Device(flops_per_s, 0.0), None)
        flops_per_s *= serial_s / lasted_s  # computing is all that takes time there, one device after the other
        computing_s, _, _ = self.virtual(method, Device(flops_per_s, 0.0), None)
        starting_s, _, _ = self.virtual(method, Device(flops_per_s, 1.0), None)
        real_s = statistics.median(self.real_s(method, rounds=_CALIBRATION_ROUNDS))
        return Device(flops_per_s, (real_s - computing_s) / (starting_s - computing_s)), real_s

    def _new(self, cfg: SimConfig) -> Run:
        self._num_runs += 1
        return Run.create(
            cfg, out=self.folder / f"run{self._num_runs}", argv=["bench"], device="cpu", device_why="bench"
        )


@contextmanager
def deployed(net: Net, folder: Path) -> Iterator[Home]:
    """A SuperLink here, and in each namespace a SuperNode, started as a person would on another machine."""
    homes = [folder / f"device{device}" for device in net.devices]
    here = folder / "home"
    net.make()
    try:
        security = self_signed(here, SERVER)
        home = start(here, 0, host=SERVER, security=security)
        for device, path in zip(net.devices, homes, strict=True):
            edgeai = (sys.executable, "-m", "edgeai", "fedsplit", "up", str(path), "--superlink", home.address)
            options = ("--ssl-ca-certfile", str(security.root), "--nodes", "1", "--first", str(device), "--json")
            _run("ip", "netns", "exec", f"edgeai{device}", *edgeai, *options)
        yield home
    finally:
        for path in (*homes, here):
            stop(path)
        net.drop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--json", type=Path, help="Write what was measured here too.")
    asked = parser.parse_args()
    if os.geteuid():
        sys.exit("network namespaces need root")
    rows = []
    with tempfile.TemporaryDirectory() as folder, deployed(Net(asked.clients), Path(folder)) as home:
        bench, net = Bench(home, Path(folder), asked), Net(asked.clients)
        calibrated = {method: bench.calibrate(method) for method in METHODS}
        for method, (device, real_s) in calibrated.items():
            print(f"{method}, no shaping: {real_s:.1f} s a round, {device.start_s:.1f} s to start", flush=True)
        for shape in SHAPES:
            net.shape(*shape)
            for method, (device, _) in calibrated.items():
                predicted_s, report, _ = bench.virtual(method, device, shape)
                real = bench.real_s(method)
                link_s = predicted_s - bench.virtual(method, device, None)[0]
                rows.append(
                    {
                        "method": method,
                        "up_bps": shape[0],
                        "down_bps": shape[1],
                        "bytes_up": report.rounds[-1].bytes_up,
                        "bytes_down": report.rounds[-1].bytes_down,
                        "start_s": device.start_s,
                        "predicted_s": predicted_s,
                        "link_s": link_s,
                        "real_s": real,
                    }
                )
                print(_line(rows[-1]), flush=True)
    print("\n| method | up, down Mbit/s | predicted | of it on the link | real, median (range) | real / predicted |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(_line(row))
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=2) + "\n")


def _line(row: dict[str, Any]) -> str:
    real_s = statistics.median(row["real_s"])
    return (
        f"| `{row['method']}` | {row['up_bps'] / 1e6:g}, {row['down_bps'] / 1e6:g} | {row['predicted_s']:.1f} s "
        f"| {row['link_s']:.1f} s | {real_s:.1f} s ({min(row['real_s']):.1f}-{max(row['real_s']):.1f}) "
        f"| {real_s / row['predicted_s']:.2f} |"
    )


def _ip(words: str) -> None:
    _run("ip", *words.split())


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {(done.stdout + done.stderr).strip()}")


if __name__ == "__main__":
    main()
