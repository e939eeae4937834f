import pytest
import torch
from torch import nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.privacy import DpSgdConfig, LabelConfig, NoiseConfig, NopeekConfig, PrivacyConfig
from edgeai.fedsplit.privacy.dcor import distance_correlation
from edgeai.fedsplit.privacy.protection import build_protect

NOISY = PrivacyConfig(noise=NoiseConfig(scale=0.3))


def protect(seed=0, client=0, **parts):
    return build_protect(PrivacyConfig(**parts), seed, client, num_classes=4)


def test_nothing_on_builds_nothing():
    assert build_protect(PrivacyConfig(), 0, 0) is None


def test_smashed_is_the_bound_with_noise_and_its_gradient():
    z = torch.linspace(-3, 3, 4000).reshape(10, 400).requires_grad_(True)
    sent = protect(noise=NoiseConfig(scale=0.3)).smashed(z)
    noise = (sent - torch.tanh(z)).detach()
    assert float(noise.abs().mean()) == pytest.approx(0.3, rel=0.1)
    sent.sum().backward()
    torch.testing.assert_close(z.grad, 1 - torch.tanh(z.detach()).square())


def test_without_a_bound_only_noise_is_added():
    z = 10.0 * torch.ones(2, 3)
    sent = protect(noise=NoiseConfig(scale=1e-6, bound="none")).smashed(z)
    torch.testing.assert_close(sent, z, rtol=0, atol=1e-4)


def test_noise_differs_by_call_client_and_seed_and_goes_on_from_a_state():
    z = torch.zeros(5, 5)
    guards = [build_protect(NOISY, seed, client) for seed, client in ((0, 0), (0, 0), (0, 1), (1, 0))]
    first = [guard.smashed(z) for guard in guards]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[3])
    assert guards[1].state() == {"training": 1, "inference": 0, "weights": 0}
    second = guards[0].smashed(z)
    assert not torch.equal(first[0], second)
    resumed = build_protect(NOISY, 0, 0)
    resumed.load_state(guards[1].state())
    assert torch.equal(resumed.smashed(z), second)


def test_measuring_changes_nothing_in_training():
    z = torch.zeros(5, 5)
    plain, measured = build_protect(NOISY, 0, 0), build_protect(NOISY, 0, 0)
    plain.smashed(z)
    measured.smashed(z)
    measured.smashed(z, training=False)
    measured.aside(7).smashed(z)
    assert torch.equal(plain.smashed(z), measured.smashed(z))


@pytest.mark.parametrize(("when", "training"), [("training", False), ("inference", True)])
def test_noise_is_added_in_its_phase_only(when, training):
    z = torch.ones(2, 3)
    guard = protect(noise=NoiseConfig(when=when))
    torch.testing.assert_close(guard.smashed(z, training=training), torch.tanh(z))
    assert not torch.equal(guard.smashed(z, training=not training), torch.tanh(z))


def test_nopeek_is_lam_times_the_correlation():
    generator = torch.Generator().manual_seed(0)
    x, z = torch.randn(8, 3, generator=generator), torch.randn(8, 2, generator=generator)
    torch.testing.assert_close(protect(nopeek=NopeekConfig(lam=0.5)).extra_loss(x, z), 0.5 * distance_correlation(x, z))
    assert build_protect(NOISY, 0, 0).extra_loss(x, z) is None


def test_nopeek_refuses_tokens():
    with pytest.raises(UsageError) as caught:
        protect(nopeek=NopeekConfig()).extra_loss(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3))
    assert caught.value.message == "NoPeek measures distances between inputs, but these are tokens"


def test_labels_are_left_alone_unless_asked():
    y = torch.arange(40) % 4
    assert build_protect(NOISY, 0, 0).labels(torch.arange(40), y) is y
    noisy = protect(labels=LabelConfig(epsilon=0.5)).labels(torch.arange(40), y)
    assert 0 < int((noisy != y).sum()) < 40
    assert set(noisy.tolist()) <= {0, 1, 2, 3}


def test_labels_need_the_number_of_classes():
    with pytest.raises(ValueError, match=r"randomized response needs num_classes >= 2, got 0"):
        build_protect(PrivacyConfig(labels=LabelConfig()), 0, 0)


def test_client_gradients_go_through_the_bound():
    part = nn.Linear(3, 2)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    head = torch.tensor([1.0, -2.0])
    guard = protect(
        noise=NoiseConfig(when="inference"), dp_sgd=DpSgdConfig(clip=1e6, noise_multiplier=0.0)
    )  # bounded, no noise in training
    z = guard.smashed(part(x)).detach().requires_grad_(True)
    (g_z,) = torch.autograd.grad((z @ head).square().mean(), z)
    guard.client_gradients(part, x, g_z)
    expected = torch.autograd.grad((torch.tanh(part(x)) @ head).square().mean(), list(part.parameters()))
    for weight, gradient in zip(part.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-4, atol=1e-6)


def test_dp_noise_is_drawn_anew_each_step():
    part, guard = nn.Linear(3, 2), protect(dp_sgd=DpSgdConfig())
    found = []
    for _ in range(2):
        guard.client_gradients(part, torch.zeros(4, 3), torch.zeros(4, 2))
        found.append(part.weight.grad.clone())
    assert not torch.equal(*found)
    assert guard.is_dp


def test_epsilon_grows_with_steps_and_is_none_without_dp_sgd():
    assert build_protect(NOISY, 0, 0).epsilon(10, 5, 100) is None
    guard = protect(dp_sgd=DpSgdConfig())
    assert 0.0 < guard.epsilon(10, 5, 100) < guard.epsilon(100, 5, 100)


def test_nopeek_and_dp_sgd_exclude_each_other():
    with pytest.raises(ValueError, match="nopeek and dp_sgd cannot be combined"):
        PrivacyConfig(nopeek=NopeekConfig(), dp_sgd=DpSgdConfig())
