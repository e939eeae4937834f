from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

SIZES = (40, 56, 33)
LABEL = 8


def test_one_round(play, batches, tiny):
    """Two clusters, {0} and {1, 2}: the first is plain SGD, the second merges 3 steps and averages its client parts."""
    played = play(method={"kind": "cpsl", "clusters": 2}, rounds=1)
    lr = 0.05
    for x, y in batches(1, 0):
        found = torch.autograd.grad(F.cross_entropy(tiny(x), y), list(tiny.parameters()))
        for weight, gradient in zip(tiny.parameters(), found, strict=True):
            weight.data -= lr * gradient
    own, server = {k: copy.deepcopy(tiny[:1]) for k in (1, 2)}, tiny[1:]
    for step in range(3):
        data = {k: batches(1, k)[step] for k in (1, 2)}
        logits = {k: server(own[k](x)) for k, (x, _) in data.items()}
        merged = F.cross_entropy(torch.cat(list(logits.values())), torch.cat([y for _, y in data.values()]))
        of_server = torch.autograd.grad(merged, list(server.parameters()), retain_graph=True)
        for k, (_, y) in data.items():
            found = torch.autograd.grad(F.cross_entropy(logits[k], y), list(own[k].parameters()), retain_graph=True)
            for weight, gradient in zip(own[k].parameters(), found, strict=True):
                weight.grad = gradient
        for weight, gradient in zip(server.parameters(), of_server, strict=True):
            weight.data -= lr * gradient
        for k in data:
            for weight in own[k].parameters():
                weight.data -= lr * weight.grad
    expected = [
        (56 * a + 33 * b) / 89 for a, b in zip(own[1].state_dict().values(), own[2].state_dict().values(), strict=True)
    ]
    expected += list(server.state_dict().values())
    for value, wanted in zip(played.weights.values(), expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cut", ["conv1", ["conv1", "conv2"]])
def test_one_cluster_is_psl(play, cut):
    ours, psl = play(method={"kind": "cpsl", "clusters": 1}, cut=cut), play(method="psl", cut=cut)
    assert ours.report.weights_hash == psl.report.weights_hash
    assert ours.report.rounds == psl.report.rounds


def test_clusters_of_one_are_relay(play):
    ours, relay = play(method={"kind": "cpsl", "clusters": 5}), play(method="relay")
    assert ours.report.weights_hash == relay.report.weights_hash
    assert ours.report.bytes_up == relay.report.bytes_up
    assert ours.report.bytes_down == relay.report.bytes_down
    assert ours.report.seconds == pytest.approx(relay.report.seconds)


def test_bytes(play):
    report = play(method={"kind": "cpsl", "clusters": 2, "uneven": "shrink"}, rounds=1).report
    num = sum(SIZES)
    weights = 3 * 40 * 4
    assert report.bytes_up == {
        "activations": num * 64 * 4, "gradients": 0, "weights": weights, "labels": num * LABEL, "side": 0
    }  # fmt: skip
    assert report.bytes_down == {
        "activations": 0, "gradients": num * 64 * 4, "weights": weights, "labels": 0, "side": 0
    }  # fmt: skip


def test_clients_of_like_pace_are_together(play):
    links = [{"up_bps": up, "down_bps": 8e6} for up in (1e5, 8e6, 1e5)]
    played = play((16, 16, 16), method={"kind": "cpsl", "clusters": 2}, rounds=1, world={"links": links})
    assert played.sim.method.clusters([0, 1, 2]) == [[1], [0, 2]]


def test_clusters_take_turns(play):
    """With slow links each cluster takes one exchange, one after the other."""
    world = {"links": [{"up_bps": 8e3, "down_bps": 8e3, "delay_s": 0.0}]}
    one = play((16,), method="cpsl", rounds=1, world=world)
    both = play((16, 16), method={"kind": "cpsl", "clusters": 2}, rounds=1, world=world)
    assert both.report.seconds == pytest.approx(2 * one.report.seconds, rel=1e-3)


def test_a_late_cluster_counts_for_nothing_on_the_client_side(play):
    world = {"links": [{"up_bps": 8e3, "down_bps": 8e3, "delay_s": 0.0}]}
    alone = play((16, 16), method={"kind": "cpsl", "clusters": 2}, rounds=1, world=world)
    deadline_s = alone.report.seconds * 0.75
    late = play(
        (16, 16),
        method={"kind": "cpsl", "clusters": 2},
        rounds=1,
        world={**world, "participation": {"deadline_s": deadline_s}},
    )
    assert late.report.rounds[0].num_late == 1
    assert late.report.seconds == pytest.approx(deadline_s)
    first = play((16,), method="cpsl", rounds=1)
    for name in ("conv1.0.weight", "conv1.0.bias"):
        assert torch.equal(late.weights[name], first.weights[name])


def test_resumes_exactly(play):
    whole, resumed = play(method="cpsl", rounds=3), play(method="cpsl", rounds=3, resume_after=1)
    assert whole.report == resumed.report
