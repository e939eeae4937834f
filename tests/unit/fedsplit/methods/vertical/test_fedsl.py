from __future__ import annotations

import copy
import functools

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from edgeai.core.errors import UsageError
from edgeai.fedsplit.models.build import build_model
from edgeai.fedsplit.protocol.batching import derived_seed

SIZES = (20, 13, 16, 9)
HIDDEN = 6
CHAIN_SIZES = (33, 25)


@pytest.fixture(autouse=True)
def _real_models(_tiny_model, monkeypatch):
    monkeypatch.setattr("edgeai.fedsplit.sim.setup.build_model", build_model)


@pytest.fixture
def fedsl(play):
    def go(sizes=SIZES, **config):
        given = {"method": "fedsl", "model": {"kind": "gru", "hidden": HIDDEN}, "cut": 1, **config}
        return play(sizes, **given)

    return go


@functools.cache
def rows():
    """Digits as eight steps of eight features, and their classes."""
    found = load_digits()
    return torch.tensor(found.data, dtype=torch.float32).view(-1, 8, 8) / 16, torch.tensor(found.target)


class Straight(nn.Module):
    """A GRU of its own for each half of the time, in plain PyTorch."""

    def __init__(self, first, second, out):
        super().__init__()
        self.first, self.second, self.out = first, second, out

    def forward(self, x):
        _, state = self.first(x[:, :4])
        states, _ = self.second(x[:, 4:], state)
        return self.out(states[:, -1])


def test_one_round_is_sgd_through_the_chain(fedsl):
    played = fedsl(rounds=1)
    start = played.sim.setup.model.model
    x, y = rows()
    nets, first = [], 100
    for chain, size in enumerate(CHAIN_SIZES):
        net = Straight(copy.deepcopy(start.gru1[1].gru), copy.deepcopy(start.gru1[1].gru), copy.deepcopy(start.out))
        generator = torch.Generator().manual_seed(derived_seed(0, 1, chain, 0, 10))
        for some in torch.randperm(size, generator=generator).split(16):
            parameters = list(net.parameters())
            loss = F.cross_entropy(net(x[first : first + size][some]), y[first : first + size][some])
            for weight, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                weight.data -= 0.05 * gradient
        nets.append(net)
        first += size
    share = [size / sum(CHAIN_SIZES) for size in CHAIN_SIZES]

    def mean(part):
        both = [part(net).state_dict() for net in nets]
        return [share[0] * a + share[1] * b for a, b in zip(both[0].values(), both[1].values(), strict=True)]

    one, two = (segment.model for segment in played.sim.method.segment_models)
    for module, part in (
        (one.gru1, lambda net: net.first),
        (two.gru1, lambda net: net.second),
        (two.out, lambda net: net.out),
    ):
        for value, expected in zip(module.state_dict().values(), mean(part), strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_bytes(fedsl):
    report = fedsl().report
    states = sum(CHAIN_SIZES) * HIDDEN * 4 * 2
    gru = 3 * HIDDEN * (8 + HIDDEN + 2)
    weights = 2 * 2 * (2 * gru + HIDDEN * 10 + 10) * 4  # two chains, two rounds
    nothing = {"labels": 0, "side": 0}
    assert report.bytes_up == {"activations": states, "gradients": states, "weights": weights, **nothing}
    assert report.bytes_down == {"activations": 0, "gradients": 0, "weights": weights, **nothing}


def test_longer_chains_and_stacked_layers(fedsl):
    """Four clients in one chain, two recurrent layers: three hops of two states."""
    played = fedsl(
        method={"kind": "fedsl", "segments": 4}, model={"kind": "gru", "hidden": HIDDEN, "num_layers": 2}, rounds=1
    )
    assert played.report.bytes_up["activations"] == 3 * sum(SIZES) * 2 * HIDDEN * 4
    assert [part.x.shape[1:] for part in played.sim.clients] == [(1, 2, 8)] * 4
    assert all(len(part) == sum(SIZES) for part in played.sim.clients)


def test_with_start_weights_a_chain_is_the_whole_model(fedsl):
    sim = fedsl(rounds=1, optim={"lr": 1e-12}, model={"kind": "gru", "hidden": HIDDEN, "num_layers": 2}).sim
    [chain] = sim.method.evaluated(sim.devices.kept)
    x = sim.dataset.test.x
    torch.testing.assert_close(chain.module(x), sim.setup.model.model(x), rtol=1e-5, atol=1e-6)


def test_chains_run_side_by_side(fedsl):
    """Two like chains take as long as one, whose messages wait for each other."""
    world = {"links": [{"up_bps": 8e3, "down_bps": 1e12, "delay_s": 0.1}]}
    one = fedsl((8, 8), rounds=1, world=world).report.seconds
    two = fedsl((8, 8, 8, 8), rounds=1, world=world).report.seconds
    assert two == pytest.approx(one, rel=1e-6)
    gru = 3 * HIDDEN * (8 + HIDDEN + 2)
    state_s = 16 * HIDDEN * 4 / 1000
    weights_s = (gru + HIDDEN * 10 + 10) * 4 / 1000
    # weights down at once; a state to the last client; its gradient and its weights leave one right after the other
    assert one == pytest.approx(0.1 + (state_s + 0.1) + (state_s + weights_s + 0.1), rel=1e-3)


def test_a_chain_with_a_gap_does_not_take_part(fedsl):
    played = fedsl(rounds=4, world={"participation": {"per_round": 3}})
    for number, row in enumerate(played.report.rounds, 1):
        assert row.num_late == 1
        gru = 3 * HIDDEN * (8 + HIDDEN + 2)
        assert played.sim.ledger.of_round(number).up["weights"] == (2 * gru + HIDDEN * 10 + 10) * 4


def test_resumes_exactly(fedsl):
    whole, resumed = fedsl(rounds=3), fedsl(rounds=3, resume_after=1)
    assert whole.report == resumed.report


@pytest.mark.parametrize(
    ("sizes", "config", "text"),
    [
        (
            (20, 13, 16),
            {},
            "method fedsl: 3 clients cannot form chains of 2 (set num_clients to 2, or change method.segments)",
        ),
        (
            (9,) * 9,
            {"method": {"kind": "fedsl", "segments": 9}},
            "method fedsl: 8 time steps for 9 segments (lower method.segments)",
        ),
        (SIZES, {"model": {"kind": "mlp"}}, "method fedsl needs a model with recurrent layers (set model.kind=gru)"),
        (
            SIZES,
            {"privacy": {"noise": {}}},
            "method fedsl sends recurrent states from client to client, which no privacy option protects "
            "(leave privacy empty)",
        ),
        (
            SIZES,
            {"codec": {"up": {"kind": "fp16"}}},
            "method fedsl sends recurrent states from client to client, which no codec packs (leave codec empty)",
        ),
    ],
)
def test_refuses(fedsl, sizes, config, text):
    with pytest.raises(UsageError) as error:
        fedsl(sizes, **config)
    assert f"{error.value} ({error.value.hint})" == text
