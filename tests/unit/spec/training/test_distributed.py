"""Several processes train as one."""

import os
import socket
import subprocess
import sys

import pytest
import torch

from edgeai.core.metrics import read_metrics
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.train import GtoConfig
from edgeai.spec.training.distributed import ALONE, process_group
from edgeai.spec.training.train import run_train

# what `torchrun -m edgeai spec train` does in each process, less the command line
RANK = """
import sys
from pathlib import Path
import torch
from edgeai.core.config import load_config
from edgeai.core.metrics import Metrics
from edgeai.core.run import Run
from edgeai.spec.training.distributed import process_group
from edgeai.spec.config.train import TrainConfig
from edgeai.spec.training.train import run_train

torch.set_num_threads(1)
path = Path(sys.argv[1])
with process_group("cpu", launched=True) as ranks:
    assert ranks.share(f"from rank {ranks.rank}") == "from rank 0"
    assert ranks.sum(torch.tensor([1.0, 10.0]) * (ranks.rank + 1)).tolist() == [3.0, 30.0]
    run = Run.open(path)
    if not ranks.is_first:
        run.metrics = Metrics(None)
    run_train(load_config(TrainConfig, path / "config.yaml"), run, ranks=ranks)
    print(ranks.rank, ranks.world)
"""


def test_alone():
    with process_group("cpu", launched=False) as ranks:
        assert ranks is ALONE
    assert ranks.is_first
    assert ranks.share("x") == "x"
    assert ranks.sum(torch.ones(2)).tolist() == [1, 1]
    ranks.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _launch(path, world: int) -> list[str]:
    common = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(path)],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, problems) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, problems
    return [out.split("\n")[-2] for out, _ in outputs]


GTO = GtoConfig(groups=2, group_size=4, tree=TreeConfig(nodes=6, depth=3, top_k=3), epochs=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"epochs": 4}, {"phase": "both", "epochs": 2, "gto": GTO}], ids=["tokens", "tokens and trees"]
)
def test_two_processes_equal_one(train_config, make_run, changes):
    """Same losses, same weights at the same global batch: two micro-batches a step, one each on two gloo processes."""
    cfg = train_config(optim={"grad_accum": 2}, **changes)
    one, two = make_run(cfg, "one"), make_run(cfg, "two")
    run_train(cfg, one)
    assert _launch(two.path, 2) == ["0 2", "1 2"]

    ours, theirs = read_metrics(two.path), read_metrics(one.path)
    assert len(ours) == len(theirs) > 8
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        # the same rows are added up in another order; Adam carries the difference on
        assert all(a[name] == pytest.approx(b[name], rel=2e-3, abs=2e-3) for name in a if name != "time_s"), (a, b)
    states = [torch.load(run.path / "state.pt", weights_only=True) for run in (two, one)]
    assert states[0]["step"] == states[1]["step"]
    assert states[0]["tokens_seen"] == states[1]["tokens_seen"]
    for name, tensor in states[0]["head"].items():
        # a step of Adam is at most about lr = 5e-3; relative errors of 1e-6 in the gradients become some 1e-5 of that
        # except where a gradient is nearly zero: 1e-3 in all
        torch.testing.assert_close(tensor, states[1]["head"][name], rtol=1e-3, atol=1e-3, msg=name)
