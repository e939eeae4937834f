from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.privacy import (
    DecoderConfig,
    FshaConfig,
    LabelConfig,
    LabelLeakageConfig,
    LeakageConfig,
    NoiseConfig,
    PrivacyConfig,
    UnsplitConfig,
)
from edgeai.fedsplit.privacy.leakage import measure_leakage
from edgeai.fedsplit.privacy.protection import build_protect
from edgeai.fedsplit.reports.leakage_report import Leakage


@dataclass(frozen=True)
class Labelled:
    x: Tensor
    y: Tensor


def samples(num, seed):
    """Class = sign pattern of the first two values; 6 values in all."""
    x = torch.randn(num, 6, generator=torch.Generator().manual_seed(seed))
    return Labelled(x, (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long())


def head_loss(z, y):
    return F.cross_entropy(z[:, :4], y)


def measure(part, protect=None, **cfg):
    return measure_leakage(part, protect, samples(80, 1), samples(400, 2), head_loss, LeakageConfig(**cfg))


def orthogonal():
    torch.manual_seed(0)
    part = nn.Linear(6, 6)
    with torch.no_grad():
        part.weight.copy_(torch.linalg.qr(torch.randn(6, 6))[0])
    return part


def test_nothing_asked_nothing_measured():
    assert LeakageConfig().is_off
    assert measure(orthogonal()) == Leakage(num_private=80, num_public=400)


def test_an_orthogonal_part_hides_nothing():
    found = measure(orthogonal(), dcor=True, dcor_batch=40, decoder=DecoderConfig(judge=True, num_steps=400))
    assert found.dcor == pytest.approx(1.0, abs=1e-4)  # distances stay as they are
    assert found.dcor_if_unrelated < 0.6
    assert found.inversion.mse < 1e-6
    assert found.inversion.dcor == pytest.approx(1.0, abs=1e-4)
    assert found.judged_accuracy_frac == found.judge_accuracy_frac > 0.85


def test_a_constant_part_hides_everything():
    part = nn.Linear(6, 3)
    nn.init.zeros_(part.weight)
    found = measure(part, dcor=True, decoder=DecoderConfig(judge=True))
    assert found.dcor == 0.0
    assert found.inversion.mse == pytest.approx(found.inversion.mse_of_mean, rel=0.05)  # the public mean is another
    assert found.judged_accuracy_frac < 0.5


def test_noise_is_seen_in_its_phase():
    noisy = build_protect(PrivacyConfig(noise=NoiseConfig(scale=2.0, when="training")), 0, 0)
    hidden = measure(orthogonal(), noisy, dcor=True, decoder=DecoderConfig())
    open_ = measure(orthogonal(), noisy, dcor=True, decoder=DecoderConfig(), phase="inference")
    assert open_.inversion.mse < 0.25 < hidden.inversion.mse
    assert open_.dcor > hidden.dcor + 0.1
    assert noisy.state() == {"training": 0, "inference": 0, "weights": 0}


def test_every_attack_runs_and_nothing_changes():
    part = orthogonal().train()
    before = {name: value.clone() for name, value in part.state_dict().items()}
    rng = torch.get_rng_state()
    cfg = {
        "unsplit": UnsplitConfig(knows_weights=True, num_rounds=30, lr=0.03, num_samples=4),
        "fsha": FshaConfig(num_steps=3),
        "labels": LabelLeakageConfig(),
    }
    found = measure(part, **cfg)
    assert found == measure(part, **cfg)  # seeded
    assert found.unsplit.mse < 0.01
    assert found.fsha.mse > 0.0
    assert found.labels.auc_cosine > 0.8
    assert part.training
    assert torch.equal(rng, torch.get_rng_state())
    for name, value in part.state_dict().items():
        assert torch.equal(value, before[name])


def test_sizes_are_kept_to():
    found = measure(orthogonal(), dcor=True, num_private=20, num_public=30)
    assert (found.num_private, found.num_public, found.dcor_batch) == (20, 30, 20)


def test_randomized_labels_hide_the_true_ones():
    part = orthogonal()
    guard = build_protect(PrivacyConfig(labels=LabelConfig(epsilon=0.5)), 0, 0, num_classes=4)
    open_ = measure(part, labels=LabelLeakageConfig(num_clues=5)).labels.auc_cosine
    hidden = measure(part, guard, labels=LabelLeakageConfig(num_clues=5)).labels.auc_cosine
    assert open_ > 0.9
    assert hidden < 0.75  # two of three labels that made the gradients are false


def test_tokens_are_refused_unless_labels_are_meant():
    tokens = Labelled(torch.arange(12).reshape(4, 3) % 5, torch.tensor([0, 1, 2, 3]))
    part = nn.Sequential(nn.Embedding(5, 2), nn.Flatten())
    found = measure_leakage(part, None, tokens, tokens, head_loss, LeakageConfig(labels=LabelLeakageConfig()))
    assert found.num_private == 4
    with pytest.raises(UsageError) as caught:
        measure_leakage(part, None, tokens, tokens, head_loss, LeakageConfig(decoder=DecoderConfig()))
    assert caught.value.message == "leakage.decoder compares real-valued inputs, but these are tokens"
    assert caught.value.hint == "for tokens only leakage.labels can be measured"
