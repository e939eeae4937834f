from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

SIZES = (40, 56, 33)
NUM = sum(SIZES)
LABEL = 8


def straight(tiny, batches, num_steps, *, rescale):
    """Lock-step in plain PyTorch: one server on the merged batch, every client's own first layer."""
    own, server = [copy.deepcopy(tiny[:1]) for _ in range(3)], tiny[1:]
    for step in range(num_steps):
        data = {k: batches(1, k)[step] for k in range(3) if step < len(batches(1, k))}
        logits = {k: server(own[k](x)) for k, (x, _) in data.items()}
        merged = F.cross_entropy(torch.cat(list(logits.values())), torch.cat([y for _, y in data.values()]))
        of_server = torch.autograd.grad(merged, list(server.parameters()), retain_graph=True)
        for k, (_, y) in data.items():
            loss = F.cross_entropy(logits[k], y) if rescale else merged
            found = torch.autograd.grad(loss, list(own[k].parameters()), retain_graph=True)
            for weight, gradient in zip(own[k].parameters(), found, strict=True):
                weight.grad = gradient
        for weight, gradient in zip(server.parameters(), of_server, strict=True):
            weight.data -= 0.05 * gradient
        for k in data:
            for weight in own[k].parameters():
                weight.data -= 0.05 * weight.grad
    return own, server


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize(("uneven", "num_steps"), [("stop", 3), ("shrink", 4)])
def test_one_round(play, batches, tiny, rescale, uneven, num_steps):
    played = play(method={"kind": "psl", "rescale": rescale, "uneven": uneven}, rounds=1)
    own, server = straight(tiny, batches, num_steps, rescale=rescale)
    states = [part.state_dict() for part in own]
    expected = [sum(SIZES[k] / NUM * states[k][name] for k in range(3)) for name in states[0]]
    for value, wanted in zip(played.weights.values(), [*expected, *server.state_dict().values()], strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-6)


def test_without_sync_layers_stay_where_they_are(play, batches, tiny):
    played = play(method={"kind": "psl", "sync": False}, rounds=1)
    own, _ = straight(tiny, batches, 3, rescale=True)
    for client in range(3):
        kept = played.sim.devices.kept(client)
        for value, expected in zip(kept.values(), own[client].state_dict().values(), strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
    assert len(played.report.client_accuracy) == 3
    assert played.report.bytes_up["weights"] == played.report.bytes_down["weights"] == 0


def test_bytes(play):
    nothing = {"activations": 0, "gradients": 0, "weights": 0, "labels": 0, "side": 0}
    for uneven, num in (("stop", 40 + 48 + 33), ("shrink", NUM)):
        report = play(method={"kind": "psl", "uneven": uneven}, rounds=1).report
        up = {**nothing, "activations": num * 64 * 4, "labels": num * LABEL, "weights": 3 * 160}
        assert report.bytes_up == up
        assert report.bytes_down == {**nothing, "gradients": num * 64 * 4, "weights": 3 * 160}


def test_everyone_waits_for_the_slowest(play):
    """One batch each: the slow link decides."""
    links = [{"up_bps": 8e3 * fast, "down_bps": 1e12, "delay_s": 0.0} for fast in (4, 1)]
    report = play((16, 16), method="psl", rounds=1, world={"links": links}).report
    assert report.seconds == pytest.approx((16 * (64 * 4 + LABEL) + 160) / 1000, rel=1e-3)


@pytest.mark.parametrize("sync", [True, False])
def test_resumes_exactly(play, sync):
    config = {"method": {"kind": "psl", "sync": sync}, "rounds": 3}
    assert play(**config).report == play(**config, resume_after=1).report
