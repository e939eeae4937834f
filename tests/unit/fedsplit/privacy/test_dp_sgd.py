import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.privacy import dp_sgd
from edgeai.fedsplit.privacy.dp_sgd import fill_private_gradients


def conv_part() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.GroupNorm(1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5))


class Last(nn.Module):
    """GRU that returns its last output."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gru = nn.GRU(3, 5, batch_first=True)

    def forward(self, x):
        return self.gru(x)[0][:, -1]


def inputs(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loop_of_whole_model(part, head, x, y, clip, bound):
    """DP-SGD's sum without noise, from autograd of the whole model on one sample after the other."""
    total = [torch.zeros_like(w) for w in part.parameters()]
    norms = []
    for one, label in zip(x, y, strict=True):
        loss = F.cross_entropy(head(bound(part(one[None]))), label[None])
        gradients = torch.autograd.grad(loss, list(part.parameters()))
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        norms.append(float(norm))
        total = [t + g * min(1.0, clip / float(norm)) for t, g in zip(total, gradients, strict=True)]
    return [t / len(x) for t in total], norms


def cut_gradients(part, head, x, y, bound):
    z = bound(part(x)).detach().requires_grad_(True)
    return torch.autograd.grad(F.cross_entropy(head(z), y), z)[0]


@pytest.mark.parametrize("make", [conv_part, Last])
@pytest.mark.parametrize("chunk", [1, 1 << 24])
def test_equals_clipping_one_sample_after_the_other(make, chunk, monkeypatch):
    monkeypatch.setattr(dp_sgd, "_CHUNK_VALUES", chunk)
    part, head = make(), nn.Linear(5, 4)
    x = inputs(6, 1, 6, 6) if make is conv_part else inputs(6, 7, 3)
    y = torch.arange(6) % 4
    _, norms = loop_of_whole_model(part, head, x, y, 1.0, torch.tanh)
    clip = sorted(norms)[3]  # some samples are clipped and some are not
    expected, _ = loop_of_whole_model(part, head, x, y, clip, torch.tanh)
    g = cut_gradients(part, head, x, y, torch.tanh)
    generator = torch.Generator().manual_seed(0)
    fill_private_gradients(part, x, g, clip=clip, noise_multiplier=0.0, generator=generator, bound=torch.tanh)
    for weight, gradient in zip(part.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-4, atol=1e-6)


def test_without_clipping_and_noise_it_is_plain_backward():
    part, head, x, y = conv_part(), nn.Linear(5, 4), inputs(6, 1, 6, 6), torch.arange(6) % 4
    twin = copy.deepcopy(part)
    F.cross_entropy(head(twin(x)), y).backward()
    g = cut_gradients(part, head, x, y, lambda z: z)
    fill_private_gradients(part, x, g, clip=1e9, noise_multiplier=0.0, generator=torch.Generator())
    for weight, other in zip(part.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_no_sample_moves_the_sum_by_more_than_the_clip():
    part, clip = conv_part(), 0.25
    x, g = inputs(5, 1, 6, 6), 100.0 * inputs(5, 5)
    sums = []
    for num in (4, 5):  # neighbors: with and without the last sample; g_i = (1/b) dl_i/dz, so scale by 1/num
        fill_private_gradients(
            part, x[:num], g[:num] / num, clip=clip, noise_multiplier=0.0, generator=torch.Generator()
        )
        sums.append(torch.cat([w.grad.flatten() for w in part.parameters()]) * num)
    assert float((sums[1] - sums[0]).norm()) == pytest.approx(clip, rel=1e-4)  # it was far above the clip


def test_noise_has_the_scale_of_clip_and_multiplier_over_the_batch():
    torch.manual_seed(0)
    part = nn.Linear(200, 200, bias=False)
    generator = torch.Generator().manual_seed(0)
    zeros = torch.zeros(10, 200)
    fill_private_gradients(part, inputs(10, 200), zeros, clip=0.5, noise_multiplier=3.0, generator=generator)
    assert float(part.weight.grad.std()) == pytest.approx(3.0 * 0.5 / 10, rel=0.02)  # 40,000 values


def test_extra_loss_is_clipped_with_the_rest():
    part, x = conv_part(), inputs(4, 1, 6, 6)
    decoder = nn.Linear(5, 36)

    def extra(one, z):
        return F.mse_loss(decoder(z), one.flatten(1), reduction="sum")

    fill_private_gradients(
        part, x, torch.zeros(4, 5), clip=1e9, noise_multiplier=0.0, generator=torch.Generator(), extra=extra
    )
    twin = copy.deepcopy(part)
    twin.zero_grad()
    (F.mse_loss(decoder(twin(x)), x.flatten(1), reduction="sum") / 4).backward()
    for weight, other in zip(part.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_frozen_weights_get_no_gradient():
    part = conv_part()
    part[0].requires_grad_(False)
    fill_private_gradients(
        part, inputs(3, 1, 6, 6), inputs(3, 5), clip=1.0, noise_multiplier=1.0, generator=torch.Generator()
    )
    assert part[0].weight.grad is None
    assert part[4].weight.grad is not None


def test_batch_norm_is_refused():
    part = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    with pytest.raises(UsageError) as caught:
        fill_private_gradients(
            part, inputs(2, 3), inputs(2, 4), clip=1.0, noise_multiplier=1.0, generator=torch.Generator()
        )
    assert caught.value.message == (
        'DP-SGD cannot clip per sample through "1" (BatchNorm1d): it mixes the samples of a batch'
    )
    assert caught.value.hint == "use GroupNorm in the client part, or leave privacy.dp_sgd empty"


def test_dropout_is_refused_while_it_drops():
    part = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))
    call = {"clip": 1.0, "noise_multiplier": 0.0, "generator": torch.Generator()}
    with pytest.raises(UsageError) as caught:
        fill_private_gradients(part, inputs(2, 3), inputs(2, 4), **call)
    assert caught.value.message == 'DP-SGD cannot repeat the random masks of "1" (Dropout) per sample'
    fill_private_gradients(part.eval(), inputs(2, 3), inputs(2, 4), **call)
