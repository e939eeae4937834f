"""A thousand clients fit on a laptop; workers do not outlive who started them."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

MANY = ["num_clients=1000", "world.participation.per_round=10", "rounds=5", "batch=1", "codec.up.kind=none"]


@pytest.mark.slow
def test_a_thousand_clients_run_within_two_gigabytes(tmp_path):
    options = [part for change in [*MANY, "data.num_train=null"] for part in ("-s", change)]
    command = [sys.executable, "-m", "edgeai", "fedsplit", "sim", "-c", "fedsplit/smoke", "--json", "-q"]
    command += ["--device=cpu", "--out", str(tmp_path / "r"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        report = json.loads(started.stdout.read())
        _, status, usage = os.wait4(started.pid, 0)  # of this process alone, not of all that tests have started
        started.returncode = os.waitstatus_to_exitcode(status)
    assert started.returncode == 0
    assert report["num_clients"] == 1000
    assert [row["num_clients"] for row in report["rounds"]] == [10] * 5
    peak_bytes = 1024 * usage.ru_maxrss
    assert peak_bytes < 2e9


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
