import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgeai.fedsplit.privacy.attacks.labels import auc, gradients_at_cut, label_leakage


def test_auc_counts_pairs():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 6, (40,), generator=generator).float()  # with ties
    is_positive = torch.rand(40, generator=generator) < 0.3
    wins = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p in scores[is_positive].tolist()
        for n in scores[~is_positive].tolist()
    ]
    assert auc(scores, is_positive) == pytest.approx(sum(wins) / len(wins))


def test_gradients_are_those_of_each_samples_own_loss():
    torch.manual_seed(0)
    head = nn.Linear(3, 4)
    z, y = torch.randn(5, 3), torch.tensor([0, 1, 2, 3, 0])
    found = gradients_at_cut(z, y, lambda z, y: F.cross_entropy(head(z), y))
    for row in range(5):
        one = z[row : row + 1].clone().requires_grad_(True)
        (expected,) = torch.autograd.grad(F.cross_entropy(head(one), y[row : row + 1]), one)
        torch.testing.assert_close(found[row], expected[0])


def test_softmax_directions_give_labels_away():
    torch.manual_seed(0)
    z, y = torch.randn(200, 8), torch.arange(200) % 4
    head = nn.Linear(8, 4)
    gradients = gradients_at_cut(z, y, lambda z, y: F.cross_entropy(head(z), y))
    assert label_leakage(gradients, y, num_clues=1, seed=0).auc_cosine > 0.95


def test_norms_give_a_rare_class_away():
    y = (torch.arange(1000) % 20 == 0).long()  # one in twenty
    torch.manual_seed(0)
    bias = torch.tensor([3.0, 0.0])  # a model that has learned which class is common
    z = 0.1 * torch.randn(1000, 2)
    gradients = gradients_at_cut(z, y, lambda z, y: F.cross_entropy(z + bias, y))
    assert label_leakage(gradients, y, num_clues=1, seed=0).auc_norm == 1.0


def test_unrelated_gradients_are_chance():
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(4000, 5, generator=generator)
    found = label_leakage(gradients, torch.arange(4000) % 4, num_clues=5, seed=0)
    assert found.auc_norm == pytest.approx(0.5, abs=0.05)
    assert found.auc_cosine == pytest.approx(0.5, abs=0.05)


def test_norms_count_whichever_way_they_point():
    y = torch.arange(10) % 2
    gradients = torch.where(y == 1, 1.0, 2.0)[:, None].expand(10, 3)
    assert label_leakage(gradients, y, num_clues=1, seed=0).auc_norm == 1.0


def test_one_class_tells_nothing():
    found = label_leakage(torch.randn(5, 3), torch.zeros(5, dtype=torch.int64), num_clues=1, seed=0)
    assert (found.auc_norm, found.auc_cosine) == (0.5, 0.5)
