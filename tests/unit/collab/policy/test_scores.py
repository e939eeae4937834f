"""Classic confidence scores against values worked out by hand."""

import math

import pytest
import torch

from edgeai.collab.policy.scores import SCORES, confidence


def probs_of(*pixels):
    """One row of pixels [C,1,W]."""
    return torch.tensor(pixels, dtype=torch.float32).T[:, None]


def test_scores_by_hand():
    """Three pixels of two classes: (1, 0), (0.8, 0.2), (0.25, 0.75). Regions: the first two, the third.

    max_prob (1 + 0.8 + 0.75) / 3; margin (1 + 0.6 + 0.5) / 3; one of three above 0.9; both regions above 0.5. With
    k(p) = 1 + (p ln p + (1-p) ln(1-p)) / ln 2: entropy (1 + k(0.8) + k(0.75)) / 3; by regions (k(0.9) + k(0.75)) / 2.
    """

    def k(p):
        return 1 + (p * math.log(p) + (1 - p) * math.log(1 - p)) / math.log(2)

    got = confidence(probs_of((1.0, 0.0), (0.8, 0.2), (0.25, 0.75)))
    expected = {
        "max_prob": (1 + 0.8 + 0.75) / 3,
        "margin": (1 + 0.6 + 0.5) / 3,
        "entropy": (1 + k(0.8) + k(0.75)) / 3,
        "frac_above": 1 / 3,
        "sedna_cross_entropy": (k(0.9) + k(0.75)) / 2,
        "ibt": 1.0,
    }
    assert tuple(got) == SCORES
    assert got == pytest.approx(expected, abs=1e-6)  # single precision


def test_ibt_counts_regions_not_pixels():
    """Two sure pixels of one region and one unsure region of three classes: one of two regions."""
    got = confidence(probs_of((1.0, 0.0, 0.0), (0.9, 0.1, 0.0), (0.3, 0.4, 0.3)))
    assert got["ibt"] == 0.5


def test_scores_at_probability_zero_and_at_indifference():
    """Sedna's cross-entropy filter takes ln 0 here. A certain frame scores 1, one without a preference the least."""
    certain = torch.zeros(5, 4, 6)
    certain[2] = 1.0
    assert set(confidence(certain).values()) == {1.0}
    flat = confidence(torch.full((5, 4, 6), 0.2))
    assert flat == pytest.approx(
        dict(zip(SCORES, (0.2, 0.0, 0.0, 0.0, 0.0, 0.0), strict=True)),
        abs=1e-6,
    )


def test_scores_stay_inside_and_order_frames():
    """Sharper logits raise every score of the same frame, and none leaves [0,1]."""
    logits = torch.randn(8, 24, 32, generator=torch.Generator().manual_seed(0))
    before = dict.fromkeys(SCORES, -1.0)
    for scale in (0.3, 2.0, 8.0, 1000.0):
        got = confidence((logits * scale).softmax(0))
        for name, score in got.items():
            assert 0.0 <= score <= 1.0
            assert score > before[name] or score in (0.0, 1.0)
        before = got
