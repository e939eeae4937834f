from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from edgeai.core.errors import UsageError
from edgeai.fedsplit.methods.hybrid.mergesfl import batch_sizes, divergence

SIZES = (40, 56, 33)
LABEL = 8


def class_shares(batches, client):
    y = torch.cat([y for _, y in batches(1, client)])
    return [int((y == label).sum()) / len(y) for label in range(10)]


def straight(tiny, batches, chosen, num_steps):
    """Lock-step of equally large batches in plain PyTorch, begun anew when a client has none left."""
    own, server = {k: copy.deepcopy(tiny[:1]) for k in chosen}, tiny[1:]
    for step in range(num_steps):
        data = {k: batches(1, k, epochs=3)[step] for k in chosen}
        logits = {k: server(own[k](x)) for k, (x, _) in data.items()}
        merged = F.cross_entropy(torch.cat(list(logits.values())), torch.cat([y for _, y in data.values()]))
        of_server = torch.autograd.grad(merged, list(server.parameters()), retain_graph=True)
        of_own = {
            k: torch.autograd.grad(F.cross_entropy(logits[k], y), list(own[k].parameters()), retain_graph=True)
            for k, (_, y) in data.items()
        }
        for k in data:
            for weight, gradient in zip(own[k].parameters(), of_own[k], strict=True):
                weight.data -= 0.05 * gradient
        for weight, gradient in zip(server.parameters(), of_server, strict=True):
            weight.data -= 0.05 * gradient
    return own, server


def test_one_round(play, batches, tiny):
    """Equal speeds: 16 each; client 0 first, then whoever makes the classes most like those of all."""
    played = play(method={"kind": "mergesfl", "select_frac": 0.6}, rounds=1)
    shares = {k: class_shares(batches, k) for k in range(3)}
    everything = [sum(SIZES[k] * shares[k][label] for k in range(3)) / sum(SIZES) for label in range(10)]

    def apart(other):
        p = [(shares[0][label] + shares[other][label]) / 2 for label in range(10)]
        return sum(a * math.log(a / b) for a, b in zip(p, everything, strict=True) if a)

    other = min((1, 2), key=apart)
    num_steps = round((SIZES[0] + SIZES[other]) / 32)
    own, server = straight(tiny, batches, (0, other), num_steps)
    assert played.sim.method.num_chosen == {0: 1, other: 1}
    expected = [
        (a + b) / 2 for a, b in zip(own[0].state_dict().values(), own[other].state_dict().values(), strict=True)
    ]
    expected += list(server.state_dict().values())
    for value, wanted in zip(played.weights.values(), expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-6)


def test_batches_are_as_large_as_links_are_fast(play):
    """Next to no computing, q = 64 floats and a label up: 4, 1 and 1 parts of 6."""
    links = [{"up_bps": 8e3 * fast, "down_bps": 1e12} for fast in (4, 1, 1)]
    played = play((200, 200, 200), method={"kind": "mergesfl", "select_frac": 1.0}, world={"links": links}, rounds=1)
    sizes = batch_sizes(played.sim.setup, (0, 1, 2), 4.0)
    assert sizes == {0: 32, 1: 8, 2: 8}
    assert batch_sizes(played.sim.setup, (0, 1, 2), 1.5) == {0: 24, 1: 11, 2: 11}
    num_steps = 600 // 48
    # client 0 goes over its 200 samples as 6 x 32 + 8 and begins anew
    seen = {0: 200 + 5 * 32 + (num_steps - 12) * 8, 1: num_steps * 8, 2: num_steps * 8}
    assert num_steps == 12
    for client, num in seen.items():
        assert played.sim.ledger.of_client(client).up["activations"] == num * 64 * 4


def test_never_larger_than_what_a_client_has(play):
    played = play((200, 5), method={"kind": "mergesfl", "select_frac": 1.0}, rounds=1)
    assert batch_sizes(played.sim.setup, (0, 1), 4.0) == {0: 16, 1: 5}


def test_divergence():
    histograms = {0: [4, 0], 1: [0, 4], 2: [2, 2]}
    sizes = {0: 10, 1: 30, 2: 5}
    assert divergence([2], sizes, histograms) == 0
    assert divergence([0], sizes, histograms) == pytest.approx(math.log(2))
    assert divergence([0, 1], sizes, histograms) == pytest.approx(
        0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    )


def test_everyone_has_a_turn(play):
    played = play(method={"kind": "mergesfl", "select_frac": 0.3}, rounds=3)
    assert played.sim.method.num_chosen == {0: 1, 1: 1, 2: 1}


def test_bytes(play):
    report = play(method={"kind": "mergesfl", "select_frac": 1.0}, rounds=1).report
    num_steps = round(sum(SIZES) / 48)
    assert num_steps == 3
    num = (16 + 16 + 8) + 3 * 16 + (16 + 16 + 1)
    assert report.bytes_up == {
        "activations": num * 64 * 4, "gradients": 0, "weights": 3 * 160, "labels": num * LABEL, "side": 3 * 10 * 8
    }  # fmt: skip
    assert report.bytes_down == {
        "activations": 0, "gradients": num * 64 * 4, "weights": 3 * 160, "labels": 0, "side": 0
    }  # fmt: skip


def test_histograms_cross_once(play):
    assert play(method="mergesfl", rounds=3).report.bytes_up["side"] == 3 * 10 * 8


def test_resumes_exactly(play):
    whole, resumed = play(method="mergesfl", rounds=4), play(method="mergesfl", rounds=4, resume_after=2)
    assert whole.report == resumed.report


def test_late_clients_do_not_count(play):
    world = {"participation": {"deadline_s": 1e-6}}
    played = play(method="mergesfl", rounds=1, world=world)
    assert played.report.rounds[0].num_late == 2
    for name, value in played.weights.items():
        assert torch.equal(value, played.sim.setup.model.model.state_dict()[name])


def test_refuses_dp_sgd(play):
    with pytest.raises(UsageError) as error:
        play(method="mergesfl", privacy={"dp_sgd": {}})
    assert str(error.value) == "privacy.dp_sgd counts batches of one size, but method mergesfl changes them"
    assert error.value.hint == "leave privacy.dp_sgd empty, or choose method psl"
