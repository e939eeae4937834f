"""A thousand clients fit on a laptop; workers do not outlive who started them."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

MANY = ["num_clients=1000", "world.participation.per_round=10", "rounds=5", "batch=1", "codec.up.kind=none"]


@pytest.mark.slow
def test_a_thousand_clients_run_within_two_gigabytes(tmp_path):
    options = [part for change in [*MANY, "data.num_train=null"] for part in ("-s", change)]
    command = [sys.executable, "-m", "edgeai", "fedsplit", "sim", "-c", "fedsplit/smoke", "--json", "-q"]
    command += ["--device=cpu", "--out", str(tmp_path / "r"), *options]
    peak_bytes = 0
    with (tmp_path / "report.json").open("w") as out, subprocess.Popen(command, stdout=out) as started:
        while started.poll() is None:
            peak_bytes = max(peak_bytes, peak_of(started.pid))
            time.sleep(0.05)
    assert started.returncode == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["num_clients"] == 1000
    assert [row["num_clients"] for row in report["rounds"]] == [10] * 5
    assert 1e8 < peak_bytes < 2e9


def peak_of(pid: int) -> int:
    """The most memory that a process has held. What a parent learns when it waits is no help: a new process begins with
    the peak of the one that started it.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return 1024 * int(found[1]) if found else 0


@pytest.mark.slow
def test_a_killed_comparison_leaves_no_worker(tmp_path):
    options = ["-s", "sim.rounds=100000", "-s", "processes=1", "-s", "cuts=[]", "--out", str(tmp_path / "c")]
    command = [sys.executable, "-m", "edgeai", "fedsplit", "compare", "-c", "fedsplit/compare-smoke", *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
        until_s = time.monotonic() + 120
        while not list((tmp_path / "c").glob("*/state.pt")) and time.monotonic() < until_s:
            time.sleep(0.2)
        workers = psutil.Process(started.pid).children(recursive=True)
        started.kill()
    assert workers
    _, alive = psutil.wait_procs(workers, timeout=30)
    for worker in alive:
        worker.kill()
    assert alive == []
