import numpy as np
import pytest

from edgeai.collab.metrics.confusion import IGNORE, agreement, confusion, frame_loss, seg_metrics


def test_two_by_three_by_hand():
    """Truth 0 0 1 / 1 1 ignored, prediction 0 1 1 / 1 2 0, classes 0, 1, 2, and 3 that never occurs.

    n_00 = 1, n_01 = 1, n_11 = 2, n_12 = 1. IoU: 1/2, 2/4, 0/1, none. CPA: (1/2 + 2/3) / 2. Accuracy 3/5.
    FWIoU (2 * 1/2 + 3 * 2/4) / 5.
    """
    truth = np.array([[0, 0, 1], [1, 1, IGNORE]], dtype=np.uint8)
    prediction = np.array([[0, 1, 1], [1, 2, 0]], dtype=np.uint8)
    counts = confusion(truth, prediction, 4)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 2, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    got = seg_metrics(counts)
    assert got.iou == (1 / 2, 2 / 4, 0.0, None)
    assert got.miou == pytest.approx((1 / 2 + 2 / 4 + 0) / 3)
    assert got.cpa == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert got.accuracy == pytest.approx(3 / 5)
    assert got.fwiou == pytest.approx((2 * 1 / 2 + 3 * 2 / 4) / 5)
    assert frame_loss(counts) == pytest.approx(1 - 1 / 3)


def test_iou_equals_sets_of_pixels():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 5, (2, 20, 30), dtype=np.uint8)
    got = seg_metrics(confusion(truth, prediction, 5))
    for c in range(5):
        both, either = ((truth == c) & (prediction == c)).sum(), ((truth == c) | (prediction == c)).sum()
        assert got.iou[c] == both / either


def test_perfect_and_empty():
    labels = np.array([[0, 1], [1, 2]], dtype=np.uint8)
    got = seg_metrics(confusion(labels, labels, 3))
    assert (got.miou, got.cpa, got.accuracy, got.fwiou) == (1.0, 1.0, 1.0, 1.0)
    nothing = confusion(np.full((2, 2), IGNORE, dtype=np.uint8), labels, 3)
    assert seg_metrics(nothing) is None
    assert frame_loss(nothing) is None


def test_unknown_label_is_rejected():
    labels = np.array([[0, 3]], dtype=np.uint8)
    fine = np.zeros((1, 2), dtype=np.uint8)
    with pytest.raises(ValueError, match="above the last of 3 classes"):
        confusion(labels, fine, 3)
    with pytest.raises(ValueError, match="above the last of 3 classes"):
        confusion(fine, labels, 3)
    with pytest.raises(ValueError, match="do not match"):
        confusion(fine, fine.T, 3)


def test_agreement():
    edge = np.array([[0, 1], [1, 2]], dtype=np.uint8)
    cloud = np.array([[0, 1], [2, IGNORE]], dtype=np.uint8)
    assert agreement(edge, cloud, 3) == pytest.approx(2 / 3)
    assert agreement(edge, cloud, 3, "miou") == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert agreement(edge, np.full_like(edge, IGNORE), 3) is None
    assert agreement(edge, np.full_like(edge, IGNORE), 3, "miou") is None
