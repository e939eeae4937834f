from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from edgeai.core.errors import UsageError

SIZES = (40, 56, 33)
LABEL = 8


def straight(tiny, batches, frac, num_steps):
    """One round in plain PyTorch, one server loss whose gradient is that of the algorithm."""
    lr, server = 0.05, tiny[1:]
    own = [copy.deepcopy(tiny[:1]) for _ in range(3)]
    share = [size / sum(SIZES) for size in SIZES]
    for step in range(num_steps):
        data = [batches(1, k)[step] for k in range(3)]
        z = [own[k](x) for k, (x, _) in enumerate(data)]
        num = math.ceil(frac * min(map(len, z)))
        total = sum(map(len, z))
        mean_z = sum(share[k] * z[k][:num].detach() for k in range(3)).requires_grad_()
        # by the logits of each client's sample, and their weighted mean
        by_logits = 0
        for k, (_, y) in enumerate(data):
            logits = server(z[k][:num].detach()).detach().requires_grad_()
            [found] = torch.autograd.grad(F.cross_entropy(logits, y[:num], reduction="sum"), logits)
            by_logits = by_logits + share[k] * found
        rest = [one[num:].detach().requires_grad_() for one in z]
        loss = 3 / total * (server(mean_z) * by_logits).sum()
        for k, (_, y) in enumerate(data):
            if len(rest[k]):
                loss = loss + F.cross_entropy(server(rest[k]), y[num:], reduction="sum") / total
        found = torch.autograd.grad(loss, [mean_z, *rest, *server.parameters()], allow_unused=True)
        shared, of_rest, of_server = found[0] * total / 3, found[1:4], found[4:]
        for weight, gradient in zip(server.parameters(), of_server, strict=True):
            weight.data -= lr * gradient
        for k in range(3):
            own_loss = (z[k][:num] * shared).sum()
            if len(rest[k]):
                own_loss = own_loss + (z[k][num:] * of_rest[k]).sum() * total
            found = torch.autograd.grad(own_loss / len(z[k]), list(own[k].parameters()))
            for weight, gradient in zip(own[k].parameters(), found, strict=True):
                weight.data -= lr * gradient
    return own, server


@pytest.mark.parametrize("frac", [0.5, 1.0])
def test_one_round(play, batches, tiny, frac):
    played = play(method={"kind": "epsl", "aggregate_frac": frac}, rounds=1)
    own, server = straight(tiny, batches, frac, num_steps=3)
    for client in range(3):
        kept = played.sim.devices.kept(client)
        for value, expected in zip(kept.values(), own[client].state_dict().values(), strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
    for value, expected in zip(list(played.weights.values())[2:], server.state_dict().values(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_nothing_aggregated_is_psl(play):
    ours = play(method={"kind": "epsl", "aggregate_frac": 0})
    psl = play(method={"kind": "psl", "sync": False})
    assert ours.report.weights_hash == psl.report.weights_hash
    assert ours.report.bytes_down == psl.report.bytes_down


def test_bytes(play):
    totals = play(method={"kind": "epsl", "aggregate_frac": 0.5}, rounds=1).sim.ledger.totals
    # batches 16/16/16, 16/16/16, 8/16/1: 8, 8 and 1 samples of each are aggregated
    once, each = 8 + 8 + 1, 3 * 8 + 3 * 8 + (7 + 15 + 0)
    num = 48 + 48 + 25
    assert totals.down == {
        "activations": 0, "gradients": (once + each) * 64 * 4, "labels": 0, "weights": 0, "side": 0
    }  # fmt: skip
    assert totals.up == {"activations": num * 64 * 4, "gradients": 0, "labels": num * LABEL, "weights": 0, "side": 0}


def test_the_loss_is_that_of_all_samples(play, batches, tiny):
    """Each client has one batch, so the start weights give it."""
    report = play(method={"kind": "epsl", "aggregate_frac": 0.5}, rounds=1, batch=64).report
    data = [batches(1, client, batch=64)[0] for client in range(3)]
    with torch.no_grad():
        loss = F.cross_entropy(tiny(torch.cat([x for x, _ in data])), torch.cat([y for _, y in data]))
    assert report.rounds[0].loss == pytest.approx(float(loss), rel=1e-5)


def test_server_computes_less(play):
    """phi = 1: three batches of 16 forward and one more, one batch backward."""
    watts = dict.fromkeys(("compute_w", "idle_w", "tx_w", "rx_w"), 1.0)
    device = {"flops_per_s": 1e6, "memory_bytes": 2**30, **watts}
    world = {"server": {"device": device}}
    psl = play((16, 16, 16), method={"kind": "psl", "sync": False}, rounds=1, world=world)
    ours = play((16, 16, 16), method={"kind": "epsl", "aggregate_frac": 1}, rounds=1, world=world)
    forward_flops = psl.sim.setup.model.cost(1, 4).forward_flops
    saved_s = ((48 + 2 * 48) - (48 + 16 + 2 * 16)) * forward_flops / 1e6
    assert psl.report.seconds - ours.report.seconds == pytest.approx(saved_s, rel=1e-3)


def test_resumes_exactly(play):
    whole, resumed = play(method="epsl", rounds=3), play(method="epsl", rounds=3, resume_after=1)
    assert whole.report == resumed.report


def test_clients_cut_elsewhere_are_aggregated_apart(play):
    report = play(method={"kind": "epsl", "aggregate_frac": 1}, cut=["conv1", "conv2"], rounds=1).report
    assert report.bytes_down["gradients"] == ((16 + 16 + 1) * 64 + (7 * 64) + (16 + 16 + 16) * 32) * 4


def test_refuses_to_clip_what_is_a_mean(play):
    with pytest.raises(UsageError) as error:
        play(method="epsl", privacy={"dp_sgd": {}})
    assert str(error.value) == (
        "privacy.dp_sgd bounds each sample's effect on the client part, but method epsl gives every sample a "
        "gradient that depends on other samples"
    )
    assert error.value.hint == "leave privacy.dp_sgd empty, or choose method psl"
