from __future__ import annotations

import copy
import functools

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from edgeai.fedsplit.config.split import AsyncSLConfig
from edgeai.fedsplit.methods.split.async_sl import Schedule
from edgeai.fedsplit.protocol.batching import derived_seed

SIZES = (40, 56, 33)
NUM = sum(SIZES)
LABEL = 8
STILL = {"kind": "async-sl", "threshold": 1e9, "max_reuse": 2}
"""Nothing moves that far: full, full (now there is a loss to compare with), forward, reuse, reuse, full."""


@functools.cache
def fixed_batches(client):
    found = load_digits()
    start = 100 + sum(SIZES[:client])
    rows = slice(start, start + SIZES[client])
    x = torch.tensor(found.data[rows], dtype=torch.float32).view(-1, 1, 8, 8) / 16
    y = torch.tensor(found.target[rows])
    generator = torch.Generator().manual_seed(derived_seed(0, client, 10))
    return [(x[some], y[some]) for some in torch.randperm(len(y), generator=generator).split(16)]


def sgd(net, parameters, num_rounds):
    for _ in range(num_rounds):
        for client in range(3):
            for x, y in fixed_batches(client):
                found = torch.autograd.grad(F.cross_entropy(net(x), y), parameters)
                for weight, gradient in zip(parameters, found, strict=True):
                    weight.data -= 0.05 * gradient


def test_full_rounds_train_all_layers_and_others_the_servers(play, tiny):
    for num_rounds, num_full in ((3, 2), (6, 3)):
        net = copy.deepcopy(tiny)
        sgd(net, list(net.parameters()), 2)
        sgd(net, list(net[1:].parameters()), min(num_rounds, 5) - 2)
        sgd(net, list(net.parameters()), num_full - 2)
        played = play(method=STILL, rounds=num_rounds)
        for value, expected in zip(played.weights.values(), net.state_dict().values(), strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_bytes_of_each_kind_of_round(play):
    ledger = play(method=STILL, rounds=6).sim.ledger
    nothing = {"activations": 0, "gradients": 0, "weights": 0, "labels": 0, "side": 0}
    up, down, weights = NUM * 64 * 4, NUM * 64 * 4, 3 * 160
    for number in (1, 2, 6):
        assert ledger.of_round(number).up == {
            **nothing, "activations": up, "labels": NUM * LABEL, "weights": weights
        }  # fmt: skip
        assert ledger.of_round(number).down == {**nothing, "gradients": down, "weights": weights}
    assert ledger.of_round(3).up == {**nothing, "activations": up, "labels": NUM * LABEL}
    assert ledger.of_round(3).down == {**nothing, "weights": weights}
    for number in (4, 5):
        assert ledger.of_round(number).num_bytes == 0


def test_a_loss_that_moves_keeps_all_rounds_full(play):
    played = play(method={"kind": "async-sl", "threshold": 0}, rounds=3)
    assert played.report.bytes_down["gradients"] == 3 * NUM * 64 * 4


def test_epochs_share_one_upload(play):
    ledger = play(method=STILL, rounds=3, local_epochs=2).sim.ledger
    assert ledger.of_round(2).up["activations"] == 2 * NUM * 64 * 4
    assert ledger.of_round(3).up["activations"] == NUM * 64 * 4


def test_states():
    cfg = AsyncSLConfig(threshold=0.1, max_reuse=1)
    first = Schedule().after(2.0, was_reuse=False, cfg=cfg)
    assert first == Schedule(is_frozen=False, reference=2.0)
    moved = first.after(1.5, was_reuse=False, cfg=cfg)
    assert moved == Schedule(is_frozen=False, reference=1.5)
    still = moved.after(1.45, was_reuse=False, cfg=cfg)
    assert still == Schedule(is_frozen=True, reference=1.45)
    forwarded = still.after(1.4, was_reuse=False, cfg=cfg)
    assert forwarded == Schedule(is_frozen=True, reference=1.45)
    assert forwarded.after(1.38, was_reuse=True, cfg=cfg).is_frozen is False  # reused often enough
    assert forwarded.after(1.3, was_reuse=False, cfg=cfg).is_frozen is False  # 0.15 since the update
    assert still.after(1.6, was_reuse=False, cfg=cfg).is_frozen is False


def test_uploads_of_a_forward_round_overlap(play):
    """Three clients with slow links of their own: as long as the slowest upload, and then one batch at the server."""
    world = {"links": [{"up_bps": 8e3, "down_bps": 1e12, "delay_s": 0.0}]}
    rows = play(method=STILL, rounds=3, world=world).report.rounds
    upload_s = 56 * (64 * 4 + LABEL) / 1000
    assert rows[2].end_s - rows[2].begin_s == pytest.approx(upload_s, rel=0.01)


def test_a_client_that_was_away_is_asked_later(play):
    world = {"participation": {"per_round": 2}}
    played = play(method={**STILL, "max_reuse": 50}, rounds=12, world=world)
    rounds = [played.sim.ledger.of_round(number).up["activations"] for number in range(3, 13)]
    assert sum(rounds) == NUM * 64 * 4  # everyone once
    assert sorted(played.sim.method.cache) == [0, 1, 2]


@pytest.mark.parametrize("resume_after", [2, 4])
def test_resumes_exactly(play, resume_after):
    whole, resumed = play(method=STILL, rounds=6), play(method=STILL, rounds=6, resume_after=resume_after)
    assert whole.report == resumed.report


def test_noise_is_part_of_what_is_cached(play):
    plain, noisy = (
        play(method=STILL, rounds=3, privacy={} if scale == 0 else {"noise": {"scale": scale, "bound": "none"}})
        for scale in (0, 0.5)
    )
    z, quiet = noisy.sim.method.cache[0][0][0], plain.sim.method.cache[0][0][0]
    assert float((z - quiet).std()) > 0.3


def test_who_is_too_late_changes_nothing(play):
    played = play(method=STILL, rounds=3, world={"participation": {"deadline_s": 1e-9}})
    start = played.sim.setup.model.model.state_dict()
    assert [row.num_late for row in played.report.rounds] == [3, 3, 3]
    assert all(torch.equal(value, start[name]) for name, value in played.weights.items())


def test_late_smashed_data_are_not_used(play):
    """In the forward round client 1, with 56 samples, is not done in time; full rounds are shorter than its upload."""
    links = [{"up_bps": 8e6, "down_bps": 1e12, "delay_s": 0.0}, {"up_bps": 8e3, "down_bps": 1e12, "delay_s": 0.0}]
    free = play((40, 56), method=STILL, rounds=2, world={"links": links})
    limit_s = free.report.rounds[0].end_s * 0.9
    world = {"links": links, "participation": {"deadline_s": limit_s}}
    played = play((40, 56), method=STILL, rounds=3, world=world)
    assert [row.num_late for row in played.report.rounds] == [1, 1, 1]
    assert list(played.sim.method.cache) == [0]
