from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgeai.core.config import load_config
from edgeai.core.run import Run
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.cuts.meter import measure_part
from edgeai.fedsplit.experiments.simulate import simulate
from edgeai.fedsplit.protocol.batching import derived_seed

SIZES = (40, 56, 33)
MODEL_BYTES = 4 * 1034


def at_speeds(world: Any, tiny: nn.Module, *job_s: float, num_samples: int = 40) -> dict[str, Any]:
    """Devices that take so long for one job over `num_samples` samples."""
    flops = num_samples * measure_part(tiny, (1, 8, 8)).train_flops
    made: dict[str, Any] = world(*(flops / seconds for seconds in job_s))
    return made


def job(tiny: nn.Module, weights: dict[str, torch.Tensor], client: int, number: int, epoch: int) -> Any:
    """What a client of 40 samples makes of a model, as a plain loop."""
    from sklearn.datasets import load_digits

    found = load_digits()
    rows = slice(100 + 40 * client, 140 + 40 * client)
    x = torch.tensor(found.data[rows], dtype=torch.float32).view(-1, 1, 8, 8) / 16
    y = torch.tensor(found.target[rows])
    model = copy.deepcopy(tiny)
    model.load_state_dict(weights)
    optim = torch.optim.SGD(model.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(derived_seed(0, number, client, epoch, 1))
    for some in torch.randperm(40, generator=generator).split(16):
        optim.zero_grad()
        F.cross_entropy(model(x[some]), y[some]).backward()
        optim.step()
    return model.state_dict()


def mixed(old: Any, new: Any, alpha: float) -> Any:
    return {name: (1 - alpha) * old[name] + alpha * new[name] for name in old}


def test_two_rounds_by_hand(play: Any, tiny: nn.Module, world: Any) -> None:
    # client 0 takes 1 s a job and client 1 takes 2.5 s: 0 arrives at 1 and 2 (round 1), then 1 at 2.5 and 0 at 3
    start = {name: value.clone() for name, value in tiny.state_dict().items()}
    after_1 = mixed(start, job(tiny, start, 0, 1, 0), 0.6)
    after_2 = mixed(after_1, job(tiny, after_1, 0, 1, 1), 0.6)
    after_3 = mixed(after_2, job(tiny, start, 1, 1, 0), 0.6 * 3**-0.5)  # two versions old
    after_4 = mixed(after_3, job(tiny, after_2, 0, 2, 0), 0.6 * 2**-0.5)  # one version old
    played = play((40, 40), method="fedasync", rounds=2, world=at_speeds(world, tiny, 1.0, 2.5))
    assert [row.end_s for row in played.report.rounds] == pytest.approx([2.0, 3.0])
    assert played.report.figures == {"staleness": 1.5}
    for value, expected in zip(played.weights.values(), after_4.values(), strict=True):
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-5)
    jobs = played.sim.method.jobs
    assert {client: job.version for client, job in jobs.items()} == {1: 3}
    assert jobs[1].at_s == pytest.approx(5.0)


def test_one_client_that_replaces_the_model_is_fedavg(play: Any) -> None:
    alone, fedavg = (play((40,), method=method) for method in ({"kind": "fedasync", "mixing": 1.0}, "fedavg"))
    for name, value in fedavg.weights.items():
        assert torch.equal(alone.weights[name], value)
    assert alone.report.seconds == pytest.approx(fedavg.report.seconds)


def test_bytes_are_those_of_the_jobs(play: Any, tiny: nn.Module, world: Any) -> None:
    played = play((40, 40), method="fedasync", rounds=2, world=at_speeds(world, tiny, 1.0, 2.5))
    num_jobs = 2 + 2 + 1  # client 0 begins at 0, 1, 2; client 1 at 0 and 2.5
    totals = played.sim.ledger.totals
    assert totals.up == totals.down
    assert totals.up == {"activations": 0, "gradients": 0, "weights": num_jobs * MODEL_BYTES, "labels": 0, "side": 0}


def test_a_slow_client_does_not_hold_up_the_others(play: Any, tiny: nn.Module, world: Any) -> None:
    seconds = [
        play((40, 40, 40), method=kind, rounds=3, world=at_speeds(world, tiny, 1.0, 1.0, 50.0)).report.seconds
        for kind in ("fedasync", "fedavg")
    ]
    assert seconds == pytest.approx([5.0, 150.0])  # nine updates of two clients with one job a second each


def test_a_deadline_ends_a_round_and_no_job(play: Any, tiny: nn.Module, world: Any) -> None:
    at_speed = at_speeds(world, tiny, 1.0, 2.5) | {"participation": {"deadline_s": 0.8}}
    played = play((40, 40), method="fedasync", rounds=4, world=at_speed)
    assert [row.end_s for row in played.report.rounds] == pytest.approx(
        [0.8, 1.6, 2.4, 3.0]
    )  # the last by its two updates
    assert played.sim.method.version == 4  # client 0 at 1, 2 and 3, client 1 at 2.5
    assert [row.loss is None for row in played.report.rounds] == [True, False, False, False]


def test_a_client_that_vanishes_delivers_nothing(play: Any) -> None:
    played = play(method="fedasync", rounds=6, world={"participation": {"drop_frac": 0.5}})
    num_begun = played.sim.ledger.totals.up["weights"] // MODEL_BYTES
    num_gone = sum(row.num_late for row in played.report.rounds)
    assert num_gone > 0
    assert num_begun == played.sim.method.version + len(played.sim.method.jobs) + num_gone
    seconds = [row.end_s for row in played.report.rounds]
    assert seconds == sorted(set(seconds)), "time goes on even where nobody delivers"


@pytest.mark.parametrize("after", [1, 2])
def test_resumes_to_the_bit_with_jobs_under_way(play: Any, tiny: nn.Module, world: Any, after: int) -> None:
    at_speed = at_speeds(world, tiny, 1.0, 2.5)
    whole, resumed = (
        play((40, 40), method="fedasync", rounds=4, world=at_speed, resume_after=one) for one in (None, after)
    )
    assert resumed.report.weights_hash == whole.report.weights_hash
    assert resumed.report.rounds == whole.report.rounds
    assert resumed.sim.ledger.totals == whole.sim.ledger.totals


def test_a_round_without_an_arrival_is_no_failure(tmp_path: Path) -> None:
    changes = [
        "method.kind=fedasync",
        "world.participation.deadline_s=1e-6",
        "privacy.noise=null",
        "leakage.dcor=false",
    ]
    cfg = load_config(SimConfig, "fedsplit/smoke", changes)
    report = simulate(cfg, Run.create(cfg, out=tmp_path / "r", argv=["edgeai"], device="cpu", device_why="test"))
    assert [row.loss for row in report.rounds] == [None] * cfg.rounds
