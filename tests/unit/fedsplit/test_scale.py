"""A thousand clients fit on a laptop."""

import json
import resource
import subprocess
import sys

import pytest

MANY = ["num_clients=1000", "world.participation.per_round=10", "rounds=5", "batch=1", "codec.up.kind=none"]


@pytest.mark.slow
def test_a_thousand_clients_run_within_two_gigabytes(tmp_path):
    options = [part for change in [*MANY, "data.num_train=null"] for part in ("-s", change)]
    command = [sys.executable, "-m", "edgeai", "fedsplit", "sim", "-c", "fedsplit/smoke", "--json", "-q"]
    done = subprocess.run(
        [*command, "--device=cpu", "--out", str(tmp_path / "r"), *options], capture_output=True, text=True, check=True
    )
    report = json.loads(done.stdout)
    assert report["num_clients"] == 1000
    assert [row["num_clients"] for row in report["rounds"]] == [10] * 5
    peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert peak_bytes < 2e9
