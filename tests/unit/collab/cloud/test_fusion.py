"""Fusion on a 4x4 map worked out by hand, and its gates."""

import numpy as np
import pytest
import torch

from edgeai.collab.cloud.fusion import fuse
from edgeai.collab.models.masks.source import Mask

# Logits of 2 classes; class 1's are 0 everywhere, class 0's are these. Own labels: 0 where positive.
#    own labels      class 0's logits
#    0 0 1 1          2  2 -1 -1
#    0 0 1 1          2  2 -1 -1
#    0 1 1 1          2 -1 -1 -1
#    1 1 1 0         -3 -1 -1  9
FIRST = [[2, 2, -1, -1], [2, 2, -1, -1], [2, -1, -1, -1], [-3, -1, -1, 9]]


def logits():
    scores = torch.zeros(2, 4, 4)
    scores[0] = torch.tensor(FIRST, dtype=torch.float)
    return scores


def mask(rows, iou=0.9):
    return Mask(np.array([[char == "#" for char in row] for row in rows]), iou)


LEFT = mask(["##..", "##..", "##..", "##.."])  # own: five 0, three 1; logits of class 0: 10 - 1 - 3 - 1 = 5
CORNER = mask(["....", "....", "...#", "...#"])  # own: one 1, one 0; logits of class 0: -1 + 9 = 8
ALL = mask(["####"] * 4)  # own: six 0, ten 1; logits of class 0: 10 - 4 - 3 - 1 - 1 - 1 - 1 - 1 + 9 = 7


def test_by_hand():
    fused = fuse(logits(), [CORNER, LEFT], purity_min=0.5, iou_min=0.5)
    assert fused.labels.dtype == np.uint8
    assert fused.labels.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 0], [0, 0, 1, 0]]
    assert fused.num_painted == 2
    sure = 1 / (1 + np.exp(-1))  # softmax of (-1, 0)
    expected = [
        [5 / 8, 5 / 8, sure, sure],
        [5 / 8, 5 / 8, sure, sure],
        [5 / 8, 5 / 8, sure, 0.5],
        [5 / 8, 5 / 8, sure, 0.5],
    ]
    np.testing.assert_allclose(fused.weight, expected, rtol=1e-6)  # float32


def test_smaller_masks_are_painted_over_larger_ones_in_any_order():
    # ALL goes to 1 by majority (10 of 16), then LEFT to 0 (5 of 8); painting the other way round would leave only 1
    for masks in ([ALL, LEFT], [LEFT, ALL]):
        fused = fuse(logits(), masks, purity_min=0.5, iou_min=0.5, vote="majority")
        assert fused.labels.tolist() == [[0, 0, 1, 1]] * 4


def test_votes_differ():
    by_logits = fuse(logits(), [ALL], purity_min=0.0, iou_min=0.5, vote="logits")
    by_majority = fuse(logits(), [ALL], purity_min=0.0, iou_min=0.5, vote="majority")
    assert set(by_logits.labels.ravel()) == {0}  # the sum of class 0's logits is 7, class 1's is 0
    assert set(by_majority.labels.ravel()) == {1}  # ten pixels of sixteen
    assert by_logits.weight.min() == by_logits.weight.max() == pytest.approx(6 / 16)


@pytest.mark.parametrize(("purity_min", "is_painted"), [(5 / 8, True), (5 / 8 + 1e-6, False)])
def test_purity_gate(purity_min, is_painted):
    plain = fuse(logits(), [], purity_min=0, iou_min=0)
    fused = fuse(logits(), [LEFT], purity_min=purity_min, iou_min=0.5)
    assert (fused.num_painted == 1) is is_painted
    assert np.array_equal(fused.labels, plain.labels) is not is_painted
    assert np.array_equal(fused.weight, plain.weight) is not is_painted


@pytest.mark.parametrize(("iou_min", "is_painted"), [(0.9, True), (0.91, False)])
def test_iou_gate(iou_min, is_painted):
    assert (fuse(logits(), [LEFT], purity_min=0.5, iou_min=iou_min).num_painted == 1) is is_painted


def test_without_masks_the_semantics_are_unchanged():
    fused = fuse(logits(), [mask(["...."] * 4)], purity_min=0.0, iou_min=0.0)  # an empty mask is none
    assert np.array_equal(fused.labels, logits().argmax(0).numpy())
    np.testing.assert_allclose(fused.weight, logits().softmax(0).amax(0).numpy())
    assert fused.num_painted == 0


def test_true_regions_can_only_help():
    """With the truth's regions as masks and semantics that are right in most of each region, all errors go."""
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, 4, (4, 6)), np.ones((8, 8), dtype=int))
    scores = torch.zeros(4, *truth.shape)
    seen = np.where(rng.random(truth.shape) < 0.3, rng.integers(0, 4, truth.shape), truth)
    scores.scatter_(0, torch.from_numpy(seen)[None], 3.0)
    cells = np.kron(np.arange(24).reshape(4, 6), np.ones((8, 8), dtype=int))
    masks = [Mask(cells == n, 1.0) for n in range(24)]
    assert (scores.argmax(0).numpy() != truth).mean() > 0.1
    assert np.array_equal(fuse(scores, masks, purity_min=0.5, iou_min=0.5).labels, truth)
