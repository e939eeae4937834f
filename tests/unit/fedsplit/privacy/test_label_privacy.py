import math

import pytest
import torch

from edgeai.fedsplit.privacy.label_privacy import debiased_shares, keep_probability, randomize_labels

NUM = 40_000


def randomise(labels, indices=None, *, epsilon=1.5, num_classes=4, seed=0, client=0):
    indices = torch.arange(len(labels)) if indices is None else indices
    return randomize_labels(labels, indices, epsilon=epsilon, num_classes=num_classes, seed=seed, client=client)


def test_keep_probability_by_hand():
    assert keep_probability(math.log(3.0), 2) == pytest.approx(3 / 4)
    assert keep_probability(math.log(3.0), 10) == pytest.approx(3 / 12)
    assert keep_probability(1e4, 10) == 1.0


def test_keeps_at_its_rate_and_replaces_evenly():
    labels = torch.arange(NUM) % 4
    noisy = randomise(labels)
    keep = math.exp(1.5) / (math.exp(1.5) + 3)
    error = math.sqrt(keep * (1 - keep) / NUM)
    assert float((noisy == labels).double().mean()) == pytest.approx(keep, abs=5 * error)
    shifts = torch.bincount((noisy - labels) % 4, minlength=4)[1:].double() / NUM
    assert shifts.tolist() == pytest.approx([(1 - keep) / 3] * 3, abs=5 * error)


def test_a_sample_always_gets_the_same_answer():
    labels = torch.arange(1000) % 4
    whole = randomise(labels)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(randomise(labels[order], order), whole[order])


def test_answers_differ_between_clients_and_seeds():
    labels = torch.zeros(1000, dtype=torch.int64)
    first = randomise(labels)
    for other in (randomise(labels, client=1), randomise(labels, seed=1)):
        # independent answers agree with sum of squares of the shares
        keep = keep_probability(1.5, 4)
        expected = keep**2 + (1 - keep) ** 2 / 3
        assert float((first == other).double().mean()) == pytest.approx(expected, abs=0.08)  # 5 standard errors


def test_estimated_shares_are_unbiased():
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    labels = torch.repeat_interleave(torch.arange(4), (shares * 2000).long())
    found = torch.stack(
        [debiased_shares(randomise(labels, seed=seed), epsilon=1.5, num_classes=4) for seed in range(40)]
    )
    assert found.sum(1).tolist() == pytest.approx([1.0] * 40)
    assert found.mean(0).tolist() == pytest.approx(shares.tolist(), abs=0.01)  # 5 standard errors of 80,000 answers
    assert float(found.std(0).max()) > 0.005  # single runs do scatter
