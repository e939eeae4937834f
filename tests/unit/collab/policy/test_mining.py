import math

import numpy as np
import pytest
import torch

from edgeai.collab.config.policy import ExploreConfig, MinerConfig
from edgeai.collab.metrics.confusion import IGNORE
from edgeai.collab.policy.mining import SCORES, Decision, Explorer, Miner, agreement, confidence, miner_input


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


def test_agreement():
    edge = np.array([[0, 1], [1, 2]], dtype=np.uint8)
    cloud = np.array([[0, 1], [2, IGNORE]], dtype=np.uint8)
    assert agreement(edge, cloud, 3) == pytest.approx(2 / 3)
    assert agreement(edge, cloud, 3, "miou") == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert agreement(edge, np.full_like(edge, IGNORE), 3) is None
    assert agreement(edge, np.full_like(edge, IGNORE), 3, "miou") is None


def frames(num, seed=0):
    """Inputs of four features whose first decides q; the scores say nothing."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(num, 4, generator=generator) * 3 + 10
    scores = torch.rand(num, 6, generator=generator) * 0.2 + 0.7
    return torch.cat([features, scores], 1), torch.sigmoid((features[:, 0] - 10) / 2)


def test_untrained_miner_is_max_prob():
    inputs, _ = frames(20)
    miner = Miner(4, MinerConfig(), seed=0)
    assert [miner.score(row) for row in inputs] == pytest.approx(inputs[:, 4].tolist(), abs=1e-6)
    scores = dict(zip(SCORES, (0.7, 0.1, 0.2, 0.3, 0.4, 0.5), strict=True))
    assert miner.score(miner_input(torch.zeros(4), scores)) == pytest.approx(0.7)


def test_miner_learns_what_the_scores_do_not_say():
    inputs, q = frames(300)
    fresh, q_fresh = frames(300, seed=1)
    miner = Miner(4, MinerConfig(steps=100, lr=0.03), seed=0)
    with torch.no_grad():
        untrained = (torch.sigmoid(miner(fresh)) - q_fresh).abs().mean()
    miner.fit(inputs, q, torch.ones(300))
    with torch.no_grad():
        error = (torch.sigmoid(miner(fresh)) - q_fresh).abs().mean()
    assert error < 0.05 < untrained / 4


def test_importance_weights_undo_the_censoring():
    """300 hard frames with q = 0, all labelled, and 30 of 300 easy ones with q = 1, which look the same to the miner.

    By weight 1/p half of all frames agree; without weights it would be 30 of 330.
    """
    inputs = torch.full((330, 10), 0.5)
    q = torch.cat([torch.zeros(300), torch.ones(30)])
    weights = torch.cat([torch.ones(300), torch.full((30,), 10.0)])
    got = []
    for weight in (weights, torch.ones(330)):
        miner = Miner(4, MinerConfig(steps=150, lr=0.05, weight_decay=0.0), seed=0)
        miner.fit(inputs, q, weight)
        got.append(miner.score(inputs[0]))
    assert got == pytest.approx([0.5, 30 / 330], abs=0.01)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"target": "agreement"}, 0.6),
        ({"target": "above_tau", "tau": 0.55}, 1.0),
        ({"target": "above_tau", "tau": 0.65}, 0.0),
        ({"target": "appealnet", "beta": 0.1}, 0.25),
        ({"target": "appealnet", "beta": 0.8}, 1.0),
    ],
)
def test_minimum_of_each_target(config, expected):
    """One frame with q = 0.6: regression gives q, above_tau whether q reaches tau, appealnet min(1, beta / (1 - q))."""
    inputs = torch.full((1, 10), 0.5)
    miner = Miner(4, MinerConfig(steps=200, lr=0.1, weight_decay=0.0, **config), seed=0)
    miner.fit(inputs, torch.tensor([0.6]), torch.ones(1))
    assert miner.score(inputs[0]) == pytest.approx(expected, abs=0.02)


def test_miner_is_the_same_under_a_seed():
    inputs, q = frames(50)
    states = []
    for seed in (1, 1, 2):
        miner = Miner(4, MinerConfig(steps=5), seed=seed)
        miner.fit(inputs, q, torch.ones(50))
        states.append(torch.cat([tensor.flatten() for tensor in miner.state_dict().values()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_decisions_depend_on_seed_and_frame_alone():
    first, second, other = (Explorer(ExploreConfig(explore_frac=0.5), seed) for seed in (4, 4, 5))
    forth = [first.decide(0.3, index) for index in range(50)]
    back = [second.decide(0.3, index) for index in reversed(range(50))]
    assert forth == back[::-1]
    assert forth != [other.decide(0.3, index) for index in range(50)]


def test_probability_of_an_upload():
    explorer = Explorer(ExploreConfig(explore_frac=0.02, max_importance=20), 0)
    assert explorer.decide(1.0, 0) == Decision(True, False, 1.0)
    assert explorer.decide(0.0, 0).prob_upload == 0.02
    assert explorer.decide(0.5, 0).prob_upload == pytest.approx(0.51)
    assert explorer.importance(Decision(True, False, 0.5)) == 2.0
    assert explorer.importance(Decision(False, True, 0.02)) == 20.0
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


def test_frames_unlike_all_it_was_fitted_to_do_not_carry_the_miner_away():
    """Beyond three standard deviations an input counts as three."""
    miner = Miner(4, MinerConfig(steps=50, lr=0.1, hidden=4), seed=0)
    torch.manual_seed(0)
    rows = torch.rand(40, 10)
    miner.fit(rows, (rows[:, 0] > 0.5).float(), torch.ones(40))
    far, edge = rows[:1].clone(), rows[:1].clone()
    far[0, 0], edge[0, 0] = 1e6, miner.mean[0] + 3 * miner.std[0]
    assert torch.allclose(miner(far), miner(edge))
    assert not torch.allclose(miner(far), miner(rows[:1]))
