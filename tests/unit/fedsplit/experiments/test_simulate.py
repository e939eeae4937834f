"""A run as a whole: what it leaves, how it goes on, how it ends badly."""

import json

import pytest
import torch
from torch import nn

from edgeai.core.config import load_config
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.run import Run
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.experiments.simulate import simulate

SMOKE = ["rounds=3", "leakage.dcor=false"]


def config(*changes):
    return load_config(SimConfig, "fedsplit/smoke", [*SMOKE, *changes])


def made(cfg, path):
    return Run.create(cfg, out=path, argv=["edgeai"], device="cpu", device_why="test")


@pytest.fixture(autouse=True)
def _real_model(monkeypatch):
    """Whole runs use the model of the config."""
    from edgeai.fedsplit.models.build import build_model

    monkeypatch.setattr("edgeai.fedsplit.sim.setup.build_model", build_model)


def test_a_run_leaves_metrics_timeline_and_state(tmp_path):
    cfg = config()
    report = simulate(cfg, made(cfg, tmp_path / "r"))
    rows = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[-1]["accuracy"] == report.accuracy
    spans = json.loads((tmp_path / "r" / "timeline.json").read_text())
    assert {span["who"] for span in spans} == {-1, 0, 1, 2}
    assert max(span["end_s"] for span in spans) == pytest.approx(report.rounds[0].end_s)
    assert (tmp_path / "r" / "state.pt").exists()


def test_the_same_config_gives_the_same_report(tmp_path):
    cfg = config()
    assert simulate(cfg, made(cfg, tmp_path / "a")) == simulate(cfg, made(cfg, tmp_path / "b"))


def test_resumed_equals_uninterrupted_even_from_the_middle_of_a_round(tmp_path, monkeypatch):
    cfg = config("method.kind=splitfed-v2")
    whole = simulate(cfg, made(cfg, tmp_path / "whole"))
    from edgeai.fedsplit.protocol import server_half

    calls = 0
    step = server_half.ServerHalf.step

    def interrupted(self, *args):
        nonlocal calls
        calls += 1
        if calls == 12:  # 3 clients x 3 batches a round: in the middle of the second
            raise KeyboardInterrupt
        return step(self, *args)

    run = made(cfg, tmp_path / "cut")
    monkeypatch.setattr(server_half.ServerHalf, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate(cfg, run)
    monkeypatch.undo()
    torch.rand(7)
    resumed = simulate(cfg, Run.open(tmp_path / "cut"), resume=True)
    assert calls == 12
    assert resumed == whole


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_rounds_before(tmp_path):
    cfg = config("optim.lr=1e30", "privacy.noise=null", "codec.up.kind=none")
    with pytest.raises(EdgeAIError) as error:
        simulate(cfg, made(cfg, tmp_path / "r"))
    assert error.value.message == f"the training loss is nan in round 1; the rounds until then are in {tmp_path / 'r'}"
    assert error.value.hint == "lower optim.lr (now 1e+30)"
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert [row["round"] for row in report["rounds"]] == [1]
    assert Run.open(tmp_path / "r").status == "failed"


def test_a_run_without_a_finished_round_begins_again(tmp_path):
    cfg = config()
    whole = simulate(cfg, made(cfg, tmp_path / "whole"))
    made(cfg, tmp_path / "r").finish("interrupted")
    assert simulate(cfg, Run.open(tmp_path / "r"), resume=True) == whole


def test_the_target_is_read_off_the_first_round_that_reached_it(tmp_path):
    cfg = config("target_accuracy=0.01")
    report = simulate(cfg, made(cfg, tmp_path / "r"))
    first = next(row for row in report.rounds if row.accuracy >= 0.01)
    assert report.target.round == first.round
    assert report.target.num_bytes == first.bytes_up + first.bytes_down
    assert report.target.seconds == first.end_s
    assert report.target.joules == first.clients_j + first.server_j


def test_rounds_that_are_not_tested_have_no_accuracy(tmp_path):
    cfg = config("eval_every=2")
    report = simulate(cfg, made(cfg, tmp_path / "r"))
    assert [row.accuracy is not None for row in report.rounds] == [False, True, True]  # the last one always


def test_a_round_of_nobody_counts_and_changes_nothing(tmp_path):
    world = "world.participation={availability: {kind: bernoulli, p: 0.001}}"
    cfg = config(world)
    report = simulate(cfg, made(cfg, tmp_path / "r"))
    assert [row.num_clients for row in report.rounds] == [0, 0, 0]
    assert [row.loss for row in report.rounds] == [None] * 3
    assert sum(report.bytes_up.values()) == 0
    assert len({row.accuracy for row in report.rounds}) == 1


def test_batchnorm_is_pointed_out(tmp_path):
    cfg = config("model.norm=batch")
    report = simulate(cfg, made(cfg, tmp_path / "r"))
    assert [warning.partition(":")[0] for warning in report.warnings] == ["the model has BatchNorm"]


def test_batchnorm_on_a_batch_of_one_is_refused(tmp_path, monkeypatch):
    def flat(*_):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))

    monkeypatch.setattr("edgeai.fedsplit.sim.setup.build_model", flat)
    cfg = config("cut=2", "data.num_train=195", "batch=32")  # 65 samples each: 32 + 32 + 1
    with pytest.raises(UsageError) as error:
        simulate(cfg, made(cfg, tmp_path / "r"))
    assert error.value.message == "client 0 has 65 samples: its last batch has one, on which BatchNorm cannot train"
    assert error.value.hint == "change batch (now 32), or use model.norm: group"


def test_batchnorm_over_pixels_trains_on_a_batch_of_one(tmp_path):
    """Of one picture there are many values per channel."""
    cfg = config("model.norm=batch", "data.num_train=195", "batch=32")
    assert simulate(cfg, made(cfg, tmp_path / "r")).rounds[-1].num_clients == 3


def test_a_guarantee_is_that_of_the_cut_with_the_most_values(tmp_path):
    """Behind conv1 there are 2 x 4 x 4 values, behind conv2 32 x 2 x 2."""
    cfg = config("model.channels=[2,32]", "cut=[conv1,conv2]", "rounds=1")
    [first, *_] = simulate(cfg, made(cfg, tmp_path / "r")).guarantees
    assert "2 * 128 * 1 / 0.1 = 2560" in first
