"""Rewards by hand, and the exact one against what many sampled decodes accept."""

import itertools
import math

import pytest
import torch

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.decoding.verify import accept
from edgeai.spec.draft.eagle3 import Eagle3
from edgeai.spec.draft.tree import build_tree, root_only
from edgeai.spec.target.sampling import Sampler
from edgeai.spec.training.gto.rewards import expected_accepted, path_probs, tree_reward

KINDS = ("lse", "exact", "max", "mean")


def three_nodes():
    """Root 9 -> a (1/2) -> c (1/4); root 9 -> b (1/4)."""
    tree = build_tree([9, 3, 4, 5], [-1, 0, 0, 1], [0.0, -1.0, -2.0, -3.0])
    return tree, torch.tensor([0.0, 1 / 2, 1 / 4, 1 / 4]).log()


@pytest.mark.parametrize(
    ("kind", "eta", "expected"),
    [
        ("exact", 1.0, 7 / 8),
        ("max", 1.0, 5 / 8),
        ("mean", 1.0, 7 / 16),
        ("lse", 1.0, math.log(math.exp(5 / 8) + math.exp(1 / 4))),
        ("lse", 4.0, math.log(math.exp(5 / 2) + math.exp(1)) / 4),
    ],
)
def test_three_node_tree_by_hand(kind, eta, expected):
    """P(a) = 1/2, P(b) = 1/4, P(c) = 1/2 * 1/4 = 1/8. Branches: a-c with L = 1/2 + 1/8 = 5/8 and b with L = 1/4.

    exact 1/2 + 1/4 + 1/8 = 7/8; max 5/8; mean (5/8 + 1/4) / 2 = 7/16; lse log(e^(eta 5/8) + e^(eta 1/4)) / eta.
    """
    tree, log_probs = three_nodes()
    assert tree_reward(tree, path_probs(tree, log_probs), kind, eta=eta) == pytest.approx(expected, rel=1e-6)


def test_nothing_is_emitted_after_the_end_of_text():
    """Were a the end of text, c could not follow: exact 1/2 + 1/4, and branch a-c has L = 1/2."""
    tree, log_probs = three_nodes()
    probs = path_probs(tree, log_probs, {3})
    assert probs.tolist() == pytest.approx([1.0, 1 / 2, 1 / 4, 0.0])
    assert tree_reward(tree, probs, "exact") == pytest.approx(3 / 4)
    assert tree_reward(tree, probs, "max") == pytest.approx(1 / 2)


def test_a_tree_without_a_draft_is_worth_nothing():
    tree = root_only(7)
    assert [tree_reward(tree, path_probs(tree, torch.zeros(1)), kind) for kind in KINDS] == [0.0] * 4


@pytest.mark.parametrize("eta", [0.1, 1.0, 8.0, 200.0])
def test_bounds_of_lse(eta):
    """max L <= r <= max L + log(number of branches) / eta, for random trees; also finite for a sharp eta."""
    generator = torch.Generator().manual_seed(0)
    for size in range(2, 30):
        parents = [-1, *(int(torch.randint(node, (), generator=generator)) for node in range(1, size))]
        tree = build_tree(list(range(size)), parents, [0.0] * size)
        probs = path_probs(tree, torch.rand(size, generator=generator).log())
        num_branches = size - len(set(parents[1:]))
        best = tree_reward(tree, probs, "max")
        reward = tree_reward(tree, probs, "lse", eta=eta)
        assert best - 1e-12 <= reward <= best + math.log(num_branches) / eta + 1e-12


def bernstein(deviation_bound, variance, num, alarm):
    """Deviation of a mean of `num` values that is exceeded with a probability of at most `alarm` (Bernstein 1924)."""
    log_term = math.log(2 / alarm)
    return math.sqrt(2 * variance * log_term / num) + 2 * deviation_bound * log_term / (3 * num)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@torch.inference_mode()
def test_exact_reward_is_what_sampled_decodes_accept(small_vocab_target, make_head, temperature):
    """Mean accepted draft tokens of 4,000 sampled verifications of one real tree.

    A node counts as accepted in a decode or not, so the accepted length lies in [0, depth] with a variance known
    exactly from the tree's probabilities. By Bernstein's inequality a right reward fails at most once in a million;
    one that is off by a fifth of its size is caught.
    """
    target, num = small_vocab_target, 4000
    text = [1, 5, 3, 9, 4, 7, 7, 2]
    cache = target.new_cache(len(text) + 60)
    features = target.prefill(text[:-1], cache).features
    drafter = Eagle3(make_head(target, draft_vocab=12), target, name="x")
    drafter.start(text[:-1], features)
    tree = drafter.propose(text[-1], TreeConfig(nodes=60, depth=4, top_k=10))
    logits = target.verify(tree.tokens, tree.depths, tree.ancestors, cache).logits
    log_probs = (logits[tree.parents] / temperature).log_softmax(-1).gather(-1, tree.tokens[:, None])[:, 0]
    probs = path_probs(tree, log_probs)
    sampler = Sampler(SamplingConfig(temperature=temperature, seed=3))
    mean = sum(accept(tree, logits, sampler).num_accepted for _ in range(num)) / num
    # the accepted length is at least d if one node of depth d is accepted, and nodes of one depth exclude each other
    reached = [float(probs[(tree.depths == d).numpy()].sum()) for d in range(1, 5)]
    second_moment = sum((2 * d - 1) * p for d, p in enumerate(reached, start=1))
    exact = expected_accepted(probs)
    slack = bernstein(4, second_moment - exact**2, num, 1e-6)
    assert abs(mean - exact) < slack < 0.2 * exact
    assert exact == pytest.approx(sum(reached))
    assert all(a > b for a, b in itertools.pairwise(reached))
