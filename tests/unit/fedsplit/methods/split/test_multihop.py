from __future__ import annotations

import pytest
import torch

from edgeai.core.errors import UsageError
from edgeai.fedsplit.protocol.ledger import RELAY

NUM = 40 + 56 + 33
ROUNDS = 2
LABEL = 8


@pytest.mark.parametrize("hops", [["fc"], ["conv2", "fc"], [2, -1]])
@pytest.mark.parametrize("cut", ["conv1", 1])
@pytest.mark.parametrize("turn", ["client", "batch"])
def test_equals_relay_to_the_bit(play, hops, cut, turn):
    relay = play(method={"kind": "relay", "turn": turn}, cut=cut)
    played = play(method={"kind": "multihop", "hops": hops, "turn": turn}, cut=cut)
    for name, value in relay.weights.items():
        assert torch.equal(value, played.weights[name]), name


def test_equals_relay_with_momentum_and_a_cut_for_each_client(play):
    config = {"cut": ["conv1", "conv2"], "optim": {"momentum": 0.9}}
    relay, played = play(method="relay", **config), play(method="multihop", **config)
    assert relay.report.weights_hash == played.report.weights_hash


def test_bytes(play):
    played = play(method={"kind": "multihop", "hops": ["conv2", "fc"]})
    relay = play(method="relay")
    between = played.sim.ledger.of_client(RELAY)
    assert between.up["activations"] == between.down["gradients"] == NUM * (32 + 16) * 4 * ROUNDS
    assert between.up["labels"] == 2 * NUM * LABEL * ROUNDS
    assert between.num_bytes == 2 * NUM * (32 + 16) * 4 * ROUNDS + 2 * NUM * LABEL * ROUNDS
    for client in range(3):
        assert played.sim.ledger.of_client(client) == relay.sim.ledger.of_client(client)


def test_each_hop_takes_its_time(play):
    """One client, one batch: what is not in relay are the two hops of 16 x 16 floats, one with 16 labels."""
    link = {"up_bps": 8e3, "down_bps": 8e3, "delay_s": 0.25}  # 1,000 bytes a second
    world = {"server": {"backhaul": link}}
    relay = play((16,), method="relay", rounds=1, world=world)
    played = play((16,), method="multihop", rounds=1, world=world)
    up_s, down_s = (16 * 16 * 4 + 16 * LABEL) / 1000 + 0.25, 16 * 16 * 4 / 1000 + 0.25
    assert played.report.seconds - relay.report.seconds == pytest.approx(up_s + down_s, rel=1e-6)


def test_server_memory_is_that_of_the_fullest(play):
    played = play(method={"kind": "multihop", "hops": ["conv2", "fc"]}, rounds=1)
    model = played.sim.setup.model
    costs = [model.cost(1, 2), model.cost(2, 3), model.cost(3, 4)]
    assert played.report.server_memory_bytes == max(2 * c.weight_bytes + 16 * c.saved_bytes for c in costs)


def test_resumes_exactly(play):
    whole, resumed = play(method="multihop", rounds=3), play(method="multihop", rounds=3, resume_after=2)
    assert whole.report == resumed.report


@pytest.mark.parametrize(
    ("hops", "text"),
    [
        (
            ["conv1"],
            'method.hops: "conv1" is not behind the client\'s cut "conv1" (choose one of conv2, fc)',
        ),
        (
            ["fc", "conv2"],
            'method.hops: "conv2" is not behind the cut before it, "fc" '
            "(cut earlier, or choose a model with more layers)",
        ),
        (["out"], 'cut: "out" leaves the server without a layer (cut after one of conv1, conv2, fc)'),
        (["fc1"], 'cut: no layer "fc1" (did you mean "fc"? the layers are conv1, conv2, fc, out)'),
    ],
)
def test_refuses(play, hops, text):
    with pytest.raises(UsageError) as error:
        play(method={"kind": "multihop", "hops": hops})
    assert f"{error.value} ({error.value.hint})" == text
