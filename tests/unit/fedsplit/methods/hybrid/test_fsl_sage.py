from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgeai.fedsplit.methods.auxiliary_nets import build_heads
from edgeai.fedsplit.methods.cut_gradients import gradient_at

SIZES = (40, 56, 33)
LR = 0.05


def test_equals_a_plain_loop_before_the_first_fit(play: Any, batches: Any, tiny: nn.Sequential, world: Any) -> None:
    sim = play(method={"kind": "fsl-sage", "h": 2}, rounds=1, world=world(1e3, 1e9, 1e9)).sim
    server = tiny[1:]
    server_optim = torch.optim.SGD(server.parameters(), lr=LR)
    finals, uploads = [], {}
    for client in range(3):
        part, head = copy.deepcopy(tiny[0]), build_heads(sim.setup)[1].module
        optim = torch.optim.SGD(part.parameters(), lr=LR)  # the head stays as it is
        uploads[client] = []
        for number, (x, y) in enumerate(batches(1, client)):
            z = part(x)
            if number % 2 == 0:
                uploads[client].append((z.detach(), y))
            optim.zero_grad()
            F.cross_entropy(head(z), y).backward()
            optim.step()
        finals.append(part.state_dict())
    for client in (1, 2, 2, 1, 0, 0):  # batch 3 of client 2 is one sample, so it arrives first
        z, y = uploads[client].pop(0)
        server_optim.zero_grad()
        F.cross_entropy(server(z), y).backward()
        server_optim.step()
    weights = sim.method.global_model.model
    for name, value in weights[0].state_dict().items():
        mean = sum(size / sum(SIZES) * final[name] for size, final in zip(SIZES, finals, strict=True))
        torch.testing.assert_close(value, mean, atol=1e-6, rtol=1e-5)
    for value, expected in zip(weights[1:].parameters(), server.parameters(), strict=True):
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-5)


def test_gradient_of_a_linear_head_is_the_closed_form() -> None:
    torch.manual_seed(0)
    head, z, y = nn.Linear(5, 3), torch.randn(4, 5), torch.tensor([0, 2, 1, 1])
    expected = (head(z).softmax(1) - F.one_hot(y, 3)) @ head.weight
    torch.testing.assert_close(gradient_at(head, z, y), expected.detach())


def test_a_head_of_the_servers_shape_learns_the_servers_gradient(play: Any) -> None:
    few = {"kind": "fsl-sage", "h": 1, "align_steps": 1, "align_lr": 0.03}
    far = play(method=few, cut="fc", rounds=1).report.figures["gradient_error"]
    near = play(method=few | {"align_steps": 300}, cut="fc", rounds=1).report.figures["gradient_error"]
    assert far > 0.5
    assert near < 1e-3  # the server is one linear layer there: a head can be equal to it


def test_a_device_learns_from_the_fitted_head(play: Any, batches: Any) -> None:
    method = {"kind": "fsl-sage", "h": 1, "align_steps": 3, "align_lr": 0.1}
    first = play((40,), method=method, rounds=1).sim
    sim = play((40,), method=method, rounds=2).sim
    part = copy.deepcopy(first.method.global_model.model[0])
    head = build_heads(sim.setup)[1].module
    head.load_state_dict(first.method.extra()["fitted"][0])
    optim = torch.optim.SGD(part.parameters(), lr=LR)
    for x, y in batches(2, 0):
        optim.zero_grad()
        F.cross_entropy(head(part(x)), y).backward()
        optim.step()
    for name, value in part.state_dict().items():
        torch.testing.assert_close(sim.method.global_model.model[0].state_dict()[name], value)


def test_heads_go_down_once_after_a_fit(play: Any) -> None:
    sim = play(method={"kind": "fsl-sage", "h": 2, "align_every": 2}, rounds=4).sim
    part_bytes, head_bytes = 3 * 4 * 40, 3 * 4 * (64 * 10 + 10)
    down = [sim.ledger.of_round(number).down for number in (1, 2, 3, 4)]
    assert [way["weights"] for way in down] == [part_bytes, part_bytes + head_bytes] * 2
    assert {way["gradients"] for way in down} == {0}
    up = sim.ledger.of_round(1).up
    num_sent = (16 + 8) + (16 + 16) + (16 + 1)
    assert up == {
        "activations": num_sent * 4 * 64,
        "gradients": 0,
        "weights": part_bytes,
        "labels": num_sent * 8,
        "side": 0,
    }


def test_remembers_the_newest_samples(play: Any, batches: Any) -> None:
    sim = play((40,), method={"kind": "fsl-sage", "h": 1, "remember": 10}, rounds=2).sim
    [(z, y)] = sim.method.extra()["seen"].values()
    assert tuple(z.shape) == (10, 4, 4, 4)
    assert torch.equal(y, torch.cat([y for _, y in batches(2, 0)])[-10:])


@pytest.mark.parametrize("resume_after", [1, 2])
def test_resumes_to_the_bit(play: Any, resume_after: int) -> None:
    config = {"method": {"kind": "fsl-sage", "h": 2, "align_every": 2}, "rounds": 4, "cut": ["conv1", "conv2"]}
    whole, resumed = play(**config), play(**config, resume_after=resume_after)
    assert resumed.report.weights_hash == whole.report.weights_hash
    assert resumed.sim.ledger.totals == whole.sim.ledger.totals
    for client, head in whole.sim.method.extra()["fitted"].items():
        for name, value in head.items():
            assert torch.equal(resumed.sim.method.extra()["fitted"][client][name], value)


def test_who_was_away_gets_its_head_later(play: Any) -> None:
    config = {"method": {"kind": "fsl-sage", "align_every": 1}, "world": {"participation": {"per_round": 1}}}
    sim = play(**config, rounds=6).sim
    head_bytes, part_bytes = 4 * 650, 4 * 40
    seen: set[int] = set()
    for number in range(1, 7):
        [client] = sim.world.cohort(number).selected
        expected = part_bytes + (head_bytes if client in seen else 0)
        assert sim.ledger.of_round(number).down["weights"] == expected
        seen.add(client)
    assert len(seen) > 1


def test_the_fit_takes_the_servers_time(play: Any, world: Any) -> None:
    few = {"kind": "fsl-sage", "h": 1, "align_steps": 1}
    slow = world(server_flops_per_s=1e6)
    seconds = [
        play((48,), method=few | {"align_steps": steps}, rounds=1, world=slow).report.seconds for steps in (1, 2, 3)
    ]
    head_flops = 6 * 64 * 10  # of training one sample
    assert seconds[1] - seconds[0] == pytest.approx(2 * 48 * head_flops / 1e6)
    assert seconds[2] - seconds[1] == pytest.approx(2 * 48 * head_flops / 1e6)
