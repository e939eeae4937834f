from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

NUM = 40 + 56 + 33
LABEL = 8
SLOW = {"links": [{"up_bps": 8e3, "down_bps": 1e12, "delay_s": 0.0}]}
"""1,000 bytes a second up; everything else takes no time to speak of."""


def sgd(net, data):
    optim = torch.optim.SGD(net.parameters(), lr=0.05)
    for x, y in data:
        optim.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optim.step()


@pytest.mark.parametrize("turn", ["client", "batch"])
@pytest.mark.parametrize("cut", ["conv1", "fc", ["conv2", "conv1"]])
def test_a_round_is_centralised_sgd(play, batches, tiny, turn, cut):
    played = play(method={"kind": "relay", "turn": turn}, cut=cut, rounds=1)
    data = [batches(1, client) for client in range(3)]
    if turn == "client":
        sgd(tiny, [batch for part in data for batch in part])
    else:
        sgd(tiny, [part[step] for step in range(4) for part in data if step < len(part)])
    for value, expected in zip(played.weights.values(), tiny.state_dict().values(), strict=True):
        assert torch.equal(value, expected)


def test_bytes(play):
    nothing = {"activations": 0, "gradients": 0, "weights": 0, "labels": 0, "side": 0}
    for turn, num_turns in (("client", 3), ("batch", 3 + 4 + 3)):
        report = play(method={"kind": "relay", "turn": turn}, rounds=1).report
        weights = num_turns * 160
        up = {**nothing, "activations": NUM * 64 * 4, "labels": NUM * LABEL, "weights": weights}
        assert report.bytes_up == up
        assert report.bytes_down == {**nothing, "gradients": NUM * 64 * 4, "weights": weights}


def test_peers_hand_on_once(play):
    report = play(method={"kind": "relay", "hand_off": "peer"}, rounds=2).report
    assert report.bytes_up["weights"] == 6 * 160
    assert report.bytes_down["weights"] == 160  # the start weights


def test_a_late_client_leaves_nothing_but_what_the_server_learnt(play, batches, tiny):
    turn_s = (40 * (64 * 4 + LABEL) + 160) / 1000
    step_s = 16 * (64 * 4 + LABEL) / 1000
    deadline_s = turn_s + 1.5 * step_s  # in the middle of client 1's second batch
    world = {**SLOW, "participation": {"deadline_s": deadline_s}}
    played = play(method="relay", rounds=1, world=world)
    assert played.report.rounds[0].num_late == 2
    assert played.report.seconds == pytest.approx(deadline_s)
    sgd(tiny, batches(1, 0))
    after_first = {name: value.clone() for name, value in tiny[:1].state_dict().items()}
    sgd(tiny, batches(1, 1)[:2])
    values = list(played.weights.values())
    for value, expected in zip(values, [*after_first.values(), *tiny[1:].state_dict().values()], strict=True):
        assert torch.equal(value, expected)


def test_lost_clients_do_not_give_their_layers(play):
    played = play(method="relay", rounds=1, world={"participation": {"drop_frac": 0.9999}})
    start = played.sim.setup.model.model.state_dict()
    assert played.report.rounds[0].num_late == 3
    for name, value in played.weights.items():
        assert torch.equal(value, start[name]) == name.startswith("conv1")


def test_nobody_has_a_turn_when_enough_have_delivered(play, batches, tiny):
    world = {"participation": {"per_round": 2, "over_select": 1.5}}
    played = play(method="relay", rounds=1, world=world)
    assert (played.report.rounds[0].num_clients, played.report.rounds[0].num_late) == (3, 1)
    assert played.report.bytes_down["gradients"] == (40 + 56) * 64 * 4
    sgd(tiny, batches(1, 0) + batches(1, 1))
    for value, expected in zip(played.weights.values(), tiny.state_dict().values(), strict=True):
        assert torch.equal(value, expected)


def test_resumes_exactly(play):
    whole, resumed = play(method="relay", rounds=3), play(method="relay", rounds=3, resume_after=1)
    assert whole.report == resumed.report
