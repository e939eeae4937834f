import itertools
import math

import numpy as np
import pytest
from pydantic import ValidationError

from edgeai.collab.config.policy import (
    CostThreshold,
    DualThreshold,
    ExploreConfig,
    FixedThreshold,
    H2t2Threshold,
    QuantileThreshold,
)
from edgeai.collab.policy.build import build_policy
from edgeai.collab.policy.exploration import Explorer
from edgeai.collab.policy.thresholds import ALL_HARD, H2t2Policy


def test_fixed():
    policy = build_policy(FixedThreshold(delta=0.4))
    assert [policy.hard_prob(score) for score in (0.0, 0.39, 0.4, 1.0)] == [1.0, 1.0, 0.0, 0.0]


def drifting(kind, num):
    """Scores in [0,1] whose distribution moves."""
    rng = np.random.default_rng(3)
    at = np.arange(num) / num
    if kind == "sinking":
        return np.clip(0.9 - 0.6 * at + 0.08 * rng.standard_normal(num), 0, 1)
    if kind == "jumping":
        return np.clip(np.where(at % 0.5 < 0.25, 0.9, 0.5) + 0.05 * rng.standard_normal(num), 0, 1)
    if kind == "waves":
        return np.clip(0.6 + 0.3 * np.sin(20 * at) + 0.05 * rng.standard_normal(num), 0, 1)
    if kind == "saturated":  # most frames score exactly 1
        return np.where(rng.random(num) < 0.9, 1.0, rng.random(num))
    return np.full(num, 0.7)


def run(policy, scores, explore=0.02):
    """Uploads of each frame [N]."""
    explorer = Explorer(ExploreConfig(explore_frac=explore), 0)
    uploads = []
    for index, score in enumerate(scores):
        uploads.append(explorer.decide(policy.hard_prob(score), index).upload)
        policy.on_decision(score, upload=uploads[-1])
    return np.array(uploads)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("kind", ["sinking", "jumping", "waves", "saturated", "constant"])
def test_quantile_holds_an_upload_rate_within_two_points(kind, rate):
    """Exploration counts too. Two points of 1,000 frames are 20 uploads owed, a shift of the level by 0.4."""
    scores = drifting(kind, 1000)
    uploads = run(build_policy(QuantileThreshold(rate=rate)), scores)
    assert uploads.mean() == pytest.approx(rate, abs=0.02)


def test_without_the_integral_the_rate_is_missed():
    uploads = run(build_policy(QuantileThreshold(rate=0.3, gain=0.0)), drifting("sinking", 1000))
    assert uploads.mean() > 0.4


def test_quantile_by_hand():
    """Rate 1/2, no integral. Of the scores .2 .7 .7 .7 one lies below the median and a third of the sevens is due."""
    policy = build_policy(QuantileThreshold(rate=0.5, gain=0.0, window=4))
    for score in (0.9, 0.7, 0.2, 0.7, 0.7):  # the first has left the window
        policy.on_decision(score, upload=True)
    assert policy.delta == 0.7
    assert [policy.hard_prob(score) for score in (0.2, 0.69, 0.71)] == [1.0, 1.0, 0.0]
    assert policy.hard_prob(0.7) == pytest.approx(1 / 3)


def test_quantile_uploads_the_lowest_scores():
    """On scores that do not drift, what is uploaded lies below what stays, but for the wobble of the threshold."""
    scores = np.random.default_rng(0).random(1000)
    uploads = run(build_policy(QuantileThreshold(rate=0.25)), scores, explore=0.0)[200:]
    assert scores[200:][uploads].max() < 0.45
    assert scores[200:][~uploads].min() > 0.1


@pytest.mark.parametrize("budget", [20_000.0, 60_000.0])
def test_dual_holds_a_byte_budget(budget):
    """10 Hz, 20 kB a frame. Overrun at most budget * (1 s / step) and one frame: the price hardly leaves [0,1]."""
    policy = build_policy(DualThreshold(bytes_per_s=budget, bytes_step=0.02))
    scores = np.random.default_rng(1).beta(3, 2, 3000)
    total = 0
    for index, score in enumerate(scores):
        num_bytes = 20_000 if policy.hard_prob(score) else 0
        policy.on_usage(index / 10, num_bytes=num_bytes)
        total += num_bytes
    assert total <= 300 * budget + budget / 0.02 + 20_000
    assert total >= 0.9 * 300 * budget  # a budget that is there to be used


def test_dual_holds_a_latency_budget():
    """Edge 10 ms, cloud 110 ms, mean at most 40 ms: 30 % uploads. The bound's overrun is 40 ms * (1 + 1/step) / N."""
    policy = build_policy(DualThreshold(latency_s=0.04, latency_step=0.02))
    scores = np.random.default_rng(2).random(4000)
    latencies = []
    for index, score in enumerate(scores):
        latencies.append(0.11 if policy.hard_prob(score) else 0.01)
        policy.on_usage(index / 10, latency_s=latencies[-1])
    assert np.mean(latencies) <= 0.04 * (1 + (1 + 1 / 0.02) / 4000)
    assert np.mean(latencies) >= 0.036


def test_dual_uploads_everything_within_a_wide_budget():
    policy = build_policy(DualThreshold(bytes_per_s=1e9))
    for index in range(50):
        assert policy.hard_prob(0.99) == 1.0
        policy.on_usage(index / 10, num_bytes=20_000)


def test_dual_keeps_both_budgets():
    """The tighter one binds: 5 % uploads by bytes, 30 % by latency."""
    policy = build_policy(DualThreshold(latency_s=0.04, bytes_per_s=10_000.0))
    uploads = []
    for index, score in enumerate(np.random.default_rng(2).random(3000)):
        uploads.append(policy.hard_prob(score))
        policy.on_usage(index / 10, latency_s=0.01 + 0.1 * uploads[-1], num_bytes=int(20_000 * uploads[-1]))
    assert 0.04 < np.mean(uploads[1000:]) < 0.06


def test_dual_without_a_budget():
    with pytest.raises(ValidationError, match="a dual threshold needs a budget"):
        DualThreshold()


def test_cost_by_hand():
    """Upload cost 0.3. Scores .1 .2 .3 .4 with losses .9 .1 .8 .2: cuts cost 2.0, 1.4, 1.6, 1.1, 1.2: delta is .35."""
    policy = build_policy(CostThreshold(upload_cost=0.3))
    for score, loss in ((0.3, 0.8), (0.1, 0.9), (0.4, 0.2), (0.2, 0.1)):
        policy.on_label(score, loss_edge=loss, weight=1.0)
    assert policy.delta == pytest.approx(0.35)


def test_cost_takes_importance_into_account():
    """One explored frame at .8 that the edge got right stands for fifty."""
    policy = build_policy(CostThreshold(upload_cost=0.3))
    for score, loss, weight in ((0.8, 0.0, 50.0), (0.9, 1.0, 1.0), (0.2, 1.0, 1.0)):
        policy.on_label(score, loss_edge=loss, weight=weight)
    assert policy.delta == pytest.approx(0.5)


def test_cost_equals_a_search_over_all_thresholds():
    """Scores with ties and weights; the window forgets what is older."""
    rng = np.random.default_rng(4)
    for _ in range(30):
        policy = build_policy(CostThreshold(upload_cost=0.4, window=12))
        frames = [(round(rng.random(), 1), rng.random(), rng.choice([1.0, 10.0])) for _ in range(20)]
        for score, loss, weight in frames:
            policy.on_label(score, loss_edge=loss, weight=weight)

        def cost(delta, frames=frames):
            return sum(w * (loss if s >= delta else 0.4) for s, loss, w in frames[-12:])

        best = min(cost(delta) for delta in (*np.linspace(0, 1, 41), ALL_HARD))
        assert cost(policy.delta) == pytest.approx(best)


def test_cost_before_the_first_label():
    assert build_policy(CostThreshold(start=0.8)).delta == 0.8


LEVELS = (0.1, 0.5, 0.9)


def h2t2_losses(kind, num):
    """Scores and edge losses. Only the middle score is worth an upload; in "turning" the high one is at first."""
    rng = np.random.default_rng(8)
    scores = rng.choice(LEVELS, num)
    worth = np.full(num, 0.5)
    if kind == "turning":
        worth[: num // 4] = 0.9
    return scores, (scores == worth).astype(float)


def fixed_pair_costs(scores, losses, upload_cost, num_levels):
    """Cost of every pair of thresholds by itself, in plain Python arithmetic."""
    levels = [*np.linspace(0, 1, num_levels + 1)[:-1], ALL_HARD]
    for low, high in [(0.0, 0.0), *itertools.combinations(levels, 2)]:
        inside = (low <= scores) & (scores < high)
        yield np.where(inside, upload_cost, losses).sum()


@pytest.mark.parametrize("kind", ["steady", "turning"])
def test_h2t2_regret_to_the_best_fixed_pair(kind):
    """Against its bound (eps beta + eta / (2 eps)) T + ln N / eta, which any policy without two thresholds misses."""
    num, eps, eta, beta, num_levels = 5000, 0.15, 0.02, 0.3, 4
    scores, losses = h2t2_losses(kind, num)
    policy = H2t2Policy(H2t2Threshold(upload_cost=beta, num_levels=num_levels, learning_rate=eta))
    explorer = Explorer(ExploreConfig(explore_frac=eps, max_importance=1e9), 1)
    cost = 0.0
    for index, (score, loss) in enumerate(zip(scores, losses, strict=True)):
        decision = explorer.decide(policy.hard_prob(score), index)
        policy.on_decision(score, upload=decision.upload)
        if decision.upload:
            policy.on_label(score, loss_edge=loss, weight=explorer.importance(decision))
        cost += beta if decision.upload else loss
    pairs = list(fixed_pair_costs(scores, losses, beta, num_levels))
    assert len(pairs) == policy.num_pairs == 1 + 5 * 4 // 2
    bound = (eps * beta + eta / (2 * eps)) * num + math.log(len(pairs)) / eta
    assert cost - min(pairs) <= bound
    if kind == "steady":
        one_threshold = min(np.where(scores < delta, beta, losses).sum() for delta in (0.0, 0.3, 0.7, 1.0))
        assert one_threshold - min(pairs) > 0.09 * num
        assert cost < one_threshold
        assert [round(policy.hard_prob(score)) for score in LEVELS] == [0, 1, 0]


def test_h2t2_estimates_are_unbiased():
    """A pair that stays pays loss / p with probability p: in expectation the loss, whatever p is."""
    config = H2t2Threshold(upload_cost=0.0, num_levels=2, learning_rate=1.0)
    for prob in (0.1, 0.5, 1.0):
        policy = H2t2Policy(config)
        policy.on_label(0.2, loss_edge=0.6, weight=1 / prob)
        paid = -policy._log_weights  # by pair: (0,0), (0,.5), (0,1], (.5,1]; the middle two upload a score of .2
        assert prob * paid == pytest.approx([0.6, 0.0, 0.0, 0.6])
