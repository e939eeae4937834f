from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from edgeai.core.errors import UsageError

SIZES = (40, 56, 33)
LABEL = 8


def straight(tiny, batches, num_steps):
    """One round in plain PyTorch; clients may run out of batches."""
    lr, server = 0.05, tiny[1:]
    own = [copy.deepcopy(tiny[:1]) for _ in range(3)]
    for step in range(num_steps):
        data = {k: batches(1, k)[step] for k in range(3) if step < len(batches(1, k))}
        z = {k: own[k](x) for k, (x, _) in data.items()}
        leaves = {k: one.detach().requires_grad_() for k, one in z.items()}
        each = torch.cat([F.cross_entropy(server(leaves[k]), data[k][1], reduction="none") for k in data])
        grads = torch.autograd.grad(each.sum(), list(leaves.values()), retain_graph=True)
        of_server = torch.autograd.grad(each.mean(), list(server.parameters()))
        for weight, gradient in zip(server.parameters(), of_server, strict=True):
            weight.data -= lr * gradient
        rows = []
        for row in range(max(map(len, grads))):
            have = [(SIZES[k], grad[row]) for k, grad in zip(data, grads, strict=True) if row < len(grad)]
            rows.append(sum(size * found for size, found in have) / sum(size for size, _ in have))
        for k in data:
            own_loss = sum((z[k][row] * rows[row]).sum() for row in range(len(z[k]))) / len(z[k])
            found = torch.autograd.grad(own_loss, list(own[k].parameters()))
            for weight, gradient in zip(own[k].parameters(), found, strict=True):
                weight.data -= lr * gradient
    return own, server


@pytest.mark.parametrize(("uneven", "num_steps"), [("stop", 3), ("shrink", 4)])
def test_one_round(play, batches, tiny, uneven, num_steps):
    played = play(method={"kind": "sfl-ga", "uneven": uneven}, rounds=1)
    own, server = straight(tiny, batches, num_steps)
    for client in range(3):
        kept = played.sim.devices.kept(client)
        for value, expected in zip(kept.values(), own[client].state_dict().values(), strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
    for value, expected in zip(list(played.weights.values())[2:], server.state_dict().values(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_bytes_are_charged_once_for_all(play):
    played = play(method={"kind": "sfl-ga", "uneven": "shrink"}, rounds=1)
    totals = played.sim.ledger.totals
    rows = 16 + 16 + 16 + 8  # the longest batch of each step: 16/16/16, 16/16/16, 8/16/1, -/8/-
    assert totals.down == {"activations": 0, "gradients": rows * 64 * 4, "labels": 0, "weights": 0, "side": 0}
    num = sum(SIZES)
    assert totals.up == {"activations": num * 64 * 4, "gradients": 0, "labels": num * LABEL, "weights": 0, "side": 0}


def test_everyone_waits_for_the_broadcast(play):
    """As long as sending it to everyone: each has a link of its own."""
    world = {"links": [{"up_bps": 8e5, "down_bps": 8e3, "delay_s": 0.0}]}  # 1,000 bytes a second down
    played = play((16, 16), method="sfl-ga", rounds=1, world=world)
    down_s = 16 * 64 * 4 / 1000
    up_s = (16 * 64 * 4 + 16 * LABEL) / 1e5
    assert played.report.seconds == pytest.approx(down_s + up_s, abs=0.01)


def test_resumes_exactly(play):
    whole, resumed = play(method="sfl-ga", rounds=3), play(method="sfl-ga", rounds=3, resume_after=2)
    assert whole.report == resumed.report


def test_one_client_is_psl(play):
    ours, psl = play((40,), method="sfl-ga"), play((40,), method={"kind": "psl", "sync": False})
    for value, expected in zip(ours.weights.values(), psl.weights.values(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)


def test_clients_cut_elsewhere_have_their_own_average(play):
    report = play(method="sfl-ga", cut=["conv1", "conv2"], rounds=1).report
    rows = 16 + 16 + 8
    assert report.bytes_down["gradients"] == (rows * 64 + (16 + 16 + 16) * 32) * 4


def test_refuses_to_clip_what_is_a_mean(play):
    with pytest.raises(UsageError) as error:
        play(method="sfl-ga", privacy={"dp_sgd": {}})
    assert str(error.value) == (
        "privacy.dp_sgd bounds each sample's effect on the client part, but method sfl-ga gives every sample a "
        "gradient that depends on other samples"
    )
    assert error.value.hint == "leave privacy.dp_sgd empty, or choose method psl"
