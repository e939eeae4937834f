from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from edgeai.core.errors import UsageError
from edgeai.fedsplit.protocol.batching import derived_seed

LABEL = 8


def drawn(number, num):
    """The clients that are averaged, as documented: a draw from seed, round and purpose 10."""
    return set(np.random.default_rng(derived_seed(0, number, 10)).choice((0, 1, 2), num, replace=False).tolist())


def straight(tiny, batches, chosen, lr_power, num_steps):
    """One round in plain PyTorch: clients' own nets, one server, gradients taken one sample at a time."""
    lr = 0.05
    server = tiny[1:]
    own = [copy.deepcopy(tiny[:1]) for _ in range(3)]
    for step in range(num_steps):
        data = [batches(1, client)[step] for client in range(3)]
        z = [own[client](x) for client, (x, _) in enumerate(data)]
        # the gradient of each sample's own loss, by autograd on that sample alone
        single = []
        for client, (_, y) in enumerate(data):
            rows = []
            for row, label in zip(z[client].detach(), y, strict=True):
                leaf = row[None].clone().requires_grad_()
                [found] = torch.autograd.grad(F.cross_entropy(server(leaf), label[None]), leaf)
                rows.append(found)
            single.append(torch.cat(rows))
        weights = list(server.parameters())
        loss = F.cross_entropy(server(torch.cat([one.detach() for one in z])), torch.cat([y for _, y in data]))
        steps = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, steps, strict=True):
                weight -= lr * 3**lr_power * gradient
        if chosen:
            mean = torch.cat([single[client] for client in sorted(chosen)]).mean(0)
        for client in range(3):
            of_each = mean.expand_as(z[client]) if client in chosen else single[client]
            found = torch.autograd.grad((z[client] * of_each).sum() / len(of_each), list(own[client].parameters()))
            with torch.no_grad():
                for weight, gradient in zip(own[client].parameters(), found, strict=True):
                    weight -= lr * gradient
    return own, server


@pytest.mark.parametrize(("average_frac", "num_chosen"), [(0.5, 2), (1.0, 3), (0.0, 0)])
def test_one_round(play, batches, tiny, average_frac, num_chosen):
    played = play(method={"kind": "sglr", "average_frac": average_frac, "lr_power": 0.5}, rounds=1)
    chosen = drawn(1, num_chosen)
    own, server = straight(tiny, batches, chosen, 0.5, num_steps=3)  # until the first clients have no batch left
    for client in range(3):
        kept = played.sim.devices.kept(client)
        for value, expected in zip(kept.values(), own[client].state_dict().values(), strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
    values = list(played.weights.values())[2:]
    for value, expected in zip(values, server.state_dict().values(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_without_either_it_is_psl(play):
    ours = play(method={"kind": "sglr", "average_frac": 0, "lr_power": 0})
    psl = play(method={"kind": "psl", "sync": False})
    assert ours.report.weights_hash == psl.report.weights_hash
    assert ours.report.accuracy == psl.report.accuracy


def test_bytes(play):
    played = play(method={"kind": "sglr", "uneven": "shrink"}, rounds=1)
    sizes, steps, chosen = (40, 56, 33), (3, 4, 3), drawn(1, 2)
    for client, (size, num_steps) in enumerate(zip(sizes, steps, strict=True)):
        found = played.sim.ledger.of_client(client)
        assert found.up == {
            "activations": size * 64 * 4,
            "labels": size * LABEL,
            "gradients": 0,
            "weights": 0,
            "side": 0,
        }
        assert found.down["gradients"] == (num_steps if client in chosen else size) * 64 * 4
        assert found.down_bytes == found.down["gradients"]


def test_clients_cut_elsewhere_have_their_own_average(play):
    report = play(method={"kind": "sglr", "average_frac": 1}, cut=["conv1", "conv2"], rounds=1).report
    assert report.bytes_down["gradients"] == 3 * (64 + 32 + 64) * 4  # three steps


def test_resumes_exactly(play):
    whole, resumed = play(method="sglr", rounds=3), play(method="sglr", rounds=3, resume_after=1)
    assert whole.report == resumed.report


def test_some_clients_only(play):
    report = play(method="sglr", rounds=3, world={"participation": {"per_round": 2}}).report
    assert [row.num_clients for row in report.rounds] == [2, 2, 2]


def test_refuses_to_clip_what_is_a_mean(play):
    with pytest.raises(UsageError) as error:
        play(method="sglr", privacy={"dp_sgd": {}})
    assert str(error.value) == (
        "privacy.dp_sgd bounds each sample's effect on the client part, but method sglr gives every sample a "
        "gradient that depends on other samples"
    )
    assert error.value.hint == "leave privacy.dp_sgd empty, or choose method psl"
