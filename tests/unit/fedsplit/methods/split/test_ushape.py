from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from edgeai.core.errors import UsageError

NUM = 40 + 56 + 33
ROUNDS = 2


def test_one_round_is_centralised_sgd(play, batches, tiny):
    played = play(method="ushape", rounds=1)
    optim = torch.optim.SGD(tiny.parameters(), lr=0.05)
    for client in range(3):
        for x, y in batches(1, client):
            optim.zero_grad()
            F.cross_entropy(tiny(x), y).backward()
            optim.step()
    for value, expected in zip(played.weights.values(), tiny.state_dict().values(), strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize("turn", ["client", "batch"])
@pytest.mark.parametrize("cut", ["conv1", ["conv1", "conv2"]])
def test_equals_relay_to_the_bit(play, turn, cut):
    relay = play(method={"kind": "relay", "turn": turn}, cut=cut)
    played = play(method={"kind": "ushape", "turn": turn}, cut=cut)
    for name, value in relay.weights.items():
        assert torch.equal(value, played.weights[name]), name
    assert played.report.rounds[-1].loss == pytest.approx(relay.report.rounds[-1].loss)


def test_bytes(play):
    report = play(method="ushape").report
    weights = (40 + 170) * 4 * 3 * ROUNDS  # conv1 and out, each client's turn
    expected = {"activations": 0, "gradients": 0, "weights": weights, "labels": 0, "side": 0}
    assert report.bytes_up == {
        **expected,
        "activations": NUM * 64 * 4 * ROUNDS,
        "gradients": NUM * 16 * 4 * ROUNDS,
    }
    assert report.bytes_down == {
        **expected,
        "activations": NUM * 16 * 4 * ROUNDS,
        "gradients": NUM * 64 * 4 * ROUNDS,
    }


def test_bytes_with_a_tail_of_two_layers_and_peers(play):
    report = play(method={"kind": "ushape", "tail": "conv2", "hand_off": "peer"}).report
    weights = (40 + 528 + 170) * 4
    assert report.bytes_down["activations"] == NUM * 32 * 4 * ROUNDS
    assert report.bytes_up["weights"] == weights * 3 * ROUNDS
    assert report.bytes_down["weights"] == weights  # only to the first client of all


def test_resumes_exactly(play):
    whole, resumed = play(method="ushape", rounds=3), play(method="ushape", rounds=3, resume_after=1)
    assert whole.report == resumed.report


def test_labels_stay_as_they_are(play):
    plain = play(method="ushape", rounds=1)
    randomised = play(method="ushape", rounds=1, privacy={"labels": {"epsilon": 0.1}})
    assert plain.report.weights_hash == randomised.report.weights_hash


def test_noise_stays_between_head_and_server(play):
    plain = play(method="ushape", rounds=1)
    noisy = play(method="ushape", rounds=1, privacy={"noise": {"scale": 0.5}})
    assert plain.report.weights_hash != noisy.report.weights_hash
    relay = play(method="relay", rounds=1, privacy={"noise": {"scale": 0.5}})
    assert noisy.report.weights_hash == relay.report.weights_hash


def test_memory_of_head_and_tail_counts_together(play):
    played = play(method="ushape", rounds=1)
    model = played.sim.setup.model
    head, tail = model.cost(0, 1), model.cost(3, 4)
    static = head.weight_bytes * 2 + tail.weight_bytes * 2
    assert played.report.client_memory_bytes == static + 16 * (head.saved_bytes + tail.saved_bytes)
    assert played.report.client_held_bytes == 16 * head.saved_bytes


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            {"method": {"kind": "ushape", "tail": "conv1"}},
            'method.tail: "conv1" is not behind the client\'s cut "conv1" (choose one of conv2, fc)',
        ),
        (
            {"method": "ushape", "cut": "fc"},
            'method.tail: "fc" is not behind the client\'s cut "fc" (cut earlier, or choose a model with more layers)',
        ),
        (
            {"method": "ushape", "privacy": {"dp_sgd": {}}},
            "privacy.dp_sgd protects the layers before the cut, but with method ushape the client trains the tail too "
            "(leave privacy.dp_sgd empty, or choose method relay)",
        ),
    ],
)
def test_refuses(play, config, text):
    with pytest.raises(UsageError) as error:
        play(**config)
    assert f"{error.value} ({error.value.hint})" == text
