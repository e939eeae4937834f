"""Agreement of two targets, against the definition."""

import pytest
import torch

from edgeai.core.metrics import Metrics
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.target.build import build_target
from edgeai.spec.target.quality import compare_logits, measure_agreement
from edgeai.spec.tiny import write_tiny_model


def test_divergence_is_what_torch_computes():
    p, q = torch.randn(2, 7, 50, generator=torch.Generator().manual_seed(0))
    divergence, equal = compare_logits(p, q)
    wanted = torch.distributions.kl_divergence(*(torch.distributions.Categorical(logits=x.double()) for x in (p, q)))
    torch.testing.assert_close(divergence, wanted)
    assert equal.tolist() == (p.argmax(-1) == q.argmax(-1)).tolist()


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    found = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp("tiny") / "model"
        write_tiny_model(folder, seed=seed)
        config = TargetConfig(model=str(folder), dtype="float32", runtime="torch")
        found.append(build_target(config, device="cpu", metrics=Metrics(None)))
    return found


def test_agreement_is_the_mean_over_all_positions(targets):
    texts = [list(range(40, 120)), list(range(60, 63))]
    same = measure_agreement(targets[0], targets[0], texts)
    assert (same.mean_kl_nats, same.top1_agreement, same.num_tokens) == (0.0, 1.0, 79 + 2)
    found = measure_agreement(*targets, texts, skip=50)
    divergences, equals = [], []
    for target_logits in zip(*(all_logits(target, texts[0]) for target in targets), strict=True):
        divergence, equal = compare_logits(*(logits[None] for logits in target_logits))
        divergences.append(float(divergence))
        equals.append(float(equal))
    assert found.num_tokens == 29
    assert found.mean_kl_nats == pytest.approx(sum(divergences[50:]) / 29, rel=1e-3)
    assert found.top1_agreement == pytest.approx(sum(equals[50:]) / 29)


def all_logits(target, ids):
    """Logits after every token but the first, from the final hidden states of all."""
    _, hidden = target.features(torch.tensor([ids]))
    return list(hidden[0, 1:].float() @ target.lm_head.T.float())
