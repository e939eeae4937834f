"""Hand-computed choices from synthetic costs: a pass over n tokens takes 10 + n ms, one draft level 1 ms."""

from __future__ import annotations

import pytest

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.decoding.costs import Costs
from edgeai.spec.serve.engine.tree_policy import PROBE_CYCLES, PROBE_EVERY, AdaptiveTree, BatchCosts, FixedTree

SMALL, LARGE = TreeConfig(nodes=2, depth=1, top_k=2), TreeConfig(nodes=8, depth=2, top_k=4)
ACCEPT = {SMALL: 1.6, LARGE: 2.6}


def make_costs(draft_share=0.0, segment_s=0.0):
    verify_s = {n: (10 + n) * 1e-3 for n in (1, 64, 512)}
    one = Costs(verify_s=verify_s, draft_first_s={4: 1e-3}, draft_level_s={4: 1e-3}, commit_s=0.0)
    return BatchCosts(one, verify_s, segment_s, draft_share)


def test_cycle_times():
    costs = make_costs(draft_share=0.5, segment_s=1e-4)
    assert costs.cycle_s(None, 3, 1) == pytest.approx(0.0143)
    # 4 roots, 3 trees of 8; two draft levels, and half of that again for each of two more requests
    assert costs.cycle_s(LARGE, 3, 1) == pytest.approx(0.010 + 0.028 + 0.002 * 2 + 0.0003)


@pytest.mark.parametrize(
    ("num", "tree", "speedup"),
    [
        (1, LARGE, 2.6 / 21 * 11),  # 10 + 9 + 2 ms
        (4, LARGE, 2.6 / 48 * 14),  # 10 + 36 + 2, small: 1.6 / 23 * 14 = 0.974
        (2, LARGE, 2.6 / 30 * 12),
    ],
)
def test_speedups(num, tree, speedup):
    gains = {t: AdaptiveTree(make_costs(), {t: ACCEPT[t]}).choose(num, 0).speedup for t in ACCEPT}
    assert gains[tree] == pytest.approx(speedup)


def test_trees_shrink_with_batch_size_down_to_none():
    policy = AdaptiveTree(make_costs(), ACCEPT)
    chosen = [(policy.choose(num, 0).tree, policy.choose(num, 0).reason) for num in (1, 2, 3, 16)]
    # at 3: large 2.6 / 39 * 13 = 0.87, small 1.6 / 20 * 13 = 1.04: below the least gain of 1.05
    # at 2: small 1.6 / 17 * 12 = 1.13, large 1.04
    assert chosen == [(LARGE, "pays"), (SMALL, "pays"), (None, "loses"), (None, "loses")]


def test_requests_without_speculation_reduce_the_gain():
    policy = AdaptiveTree(make_costs(), {SMALL: 1.6})
    decision = policy.choose(1, 3)
    assert decision.speedup == pytest.approx((3 + 1.6) / (10 + 6 + 1) / (4 / 14))
    assert policy.choose(0, 4).reason == "none"


def test_acceptance_switches_speculation_off_and_on():
    policy = AdaptiveTree(make_costs(), ACCEPT)
    assert policy.choose(1, 0).tree == LARGE
    for _ in range(200):
        policy.observe(LARGE, 0)
    # running sums forget a 128th per cycle; the expected one nears 162
    assert policy.scale == pytest.approx(16 / (16 + 1.6 * 128 * (1 - (1 - 1 / 128) ** 200)), rel=1e-6)
    assert policy.choose(1, 0).reason == "loses"
    reasons = [policy.choose(1, 0).reason for _ in range(2 * PROBE_EVERY)]
    assert 0 < reasons.count("probe") <= 2 * PROBE_CYCLES
    for _ in range(400):
        policy.observe(LARGE, 2)
    assert policy.choose(1, 0).reason == "pays"


def test_a_fixed_tree_is_always_chosen():
    assert FixedTree(LARGE).choose(16, 0).tree == LARGE
    assert FixedTree(LARGE).choose(0, 3).tree is None
    assert FixedTree(None).choose(3, 0).reason == "none"
