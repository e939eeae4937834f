"""Upload draws, exploration and importance weights."""

import math

import numpy as np
import pytest

from edgeai.collab.config.policy import ExploreConfig
from edgeai.collab.policy.exploration import Explorer, UploadDraw, drawn_rate


def test_decisions_depend_on_seed_and_frame_alone():
    first, second, other = (Explorer(ExploreConfig(explore_frac=0.5), seed) for seed in (4, 4, 5))
    forth = [first.decide(0.3, index) for index in range(50)]
    back = [second.decide(0.3, index) for index in reversed(range(50))]
    assert forth == back[::-1]
    assert forth != [other.decide(0.3, index) for index in range(50)]


def test_probability_of_an_upload():
    explorer = Explorer(ExploreConfig(explore_frac=0.02, max_importance=20), 0)
    assert explorer.decide(1.0, 0) == UploadDraw(True, False, 1.0)
    assert explorer.decide(0.0, 0).prob_upload == 0.02
    assert explorer.decide(0.5, 0).prob_upload == pytest.approx(0.51)
    assert explorer.importance(UploadDraw(True, False, 0.5)) == 2.0
    assert explorer.importance(UploadDraw(False, True, 0.02)) == 20.0
    silent = Explorer(ExploreConfig(explore_frac=0.0), 0)
    assert not any(silent.decide(0.0, index).upload for index in range(200))


def test_importance_weights_are_unbiased():
    """Mean loss of all frames from the uploaded ones alone, where hard frames lose more.

    The estimate is a mean of independent terms l 1{upload} / p in [0, 10] whose variance l^2 (1/p - 1) is known; by
    Bernstein's inequality a right rule misses its bound once in a million. Without weights the bound is missed by far.
    """
    num, eps = 12_000, 0.1
    rng = np.random.default_rng(11)
    scores = rng.random(num)
    losses = np.clip(0.9 - scores + 0.2 * rng.random(num), 0, 1)
    explorer = Explorer(ExploreConfig(explore_frac=eps, max_importance=1e9), 3)
    decisions = [explorer.decide(float(score < 0.3), index) for index, score in enumerate(scores)]
    uploaded = np.array([decision.upload for decision in decisions])
    probs = np.array([decision.prob_upload for decision in decisions])
    weights = np.array([explorer.importance(decision) for decision in decisions])
    log_term = math.log(2 / 1e-6)
    variance = (losses**2 * (1 / probs - 1)).mean()
    bound = math.sqrt(2 * variance * log_term / num) + 2 * 10 * log_term / (3 * num)
    estimate = (losses * weights * uploaded).mean()
    assert abs(estimate - losses.mean()) < bound
    assert abs(losses[uploaded].mean() - losses.mean()) > 2 * bound
    assert abs((weights * uploaded).mean() - 1) < math.sqrt(2 * (1 / probs - 1).mean() * log_term / num) + 20 / 3 * (
        log_term / num
    )


@pytest.mark.parametrize("num_uploads", [0, 1, 17, 40])
def test_drawn_rate_draws_exactly(num_uploads):
    explorer = Explorer(ExploreConfig(explore_frac=0.0), 3)
    rate = drawn_rate(num_uploads, 40, 3)
    assert sum(explorer.decide(rate, index).upload for index in range(40)) == num_uploads
