"""Packed scoring against `Target.verify`, one tree at a time behind a fresh prefill.

Tolerance: float32 sums over other numbers of rows; logits reach about 20.
"""

import random

import pytest
import torch

from edgeai.spec.draft.tree import build_tree, root_only
from edgeai.spec.target import tree_scoring as scoring
from edgeai.spec.target.protocol import TreeScores
from edgeai.spec.target.tree_scoring import packs, room

TEXT = [5, 17, 3, 99, 42, 7, 7, 120, 64, 31, 2, 88, 13, 9, 54, 21, 77, 8, 40, 11]


def random_tree(rng, root, vocab_size, size):
    parents = [-1, *(rng.randrange(node) for node in range(1, size))]
    return build_tree([root, *(rng.randrange(vocab_size) for _ in range(size - 1))], parents, [0.0] * size)


def score_one(target, tree, prefix, temperature):
    """By `verify`, with the prefix alone in the cache."""
    cache = target.new_cache(len(TEXT) + tree.size)
    target.prefill(TEXT[:prefix], cache)
    logits = target.verify(tree.tokens, tree.depths, tree.ancestors, cache).logits
    log_probs = [0.0]
    for node in range(1, tree.size):
        row = (logits[tree.parents[node]] / temperature).log_softmax(-1)
        log_probs.append(float(row[tree.tokens[node]]))
    return TreeScores(torch.tensor(log_probs), logits.argmax(-1))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("pack_nodes", [1, 24, 512])
@torch.inference_mode()
def test_packed_equals_one_by_one(target, monkeypatch, pack_nodes, temperature):
    """Groups of adjacent prefixes, several trees behind one prefix, a tree that is a root, one larger than a pack."""
    monkeypatch.setitem(scoring.PACK_NODES, "cpu", pack_nodes)
    rng = random.Random(0)
    prefixes = [1, 5, 6, 7, 8, 8, 15, 16, 19]
    trees = [
        random_tree(rng, TEXT[prefix], 128, size)
        for prefix, size in zip(prefixes, (4, 9, 1, 12, 7, 7, 30, 2, 5), strict=True)
    ]
    cache = target.new_cache(len(TEXT) + room(30, target.device))
    target.prefill(TEXT, cache)
    found = target.score_trees(trees, prefixes, cache, temperature=temperature)
    assert cache.lengths == [len(TEXT)]
    again = target.score_trees(trees, prefixes, cache, temperature=temperature)
    for tree, prefix, scores, repeated in zip(trees, prefixes, found, again, strict=True):
        expected = score_one(target, tree, prefix, temperature)
        torch.testing.assert_close(scores.log_probs, expected.log_probs, rtol=1e-4, atol=1e-4)
        assert torch.equal(scores.best, expected.best)
        assert torch.equal(scores.log_probs, repeated.log_probs)  # the text's keys and values are untouched


def test_packs_by_hand():
    """At most ten nodes: 4 + 6, then 7, then 12 alone, then 3 + 1."""
    trees = [build_tree([0] * n, [-1] + [0] * (n - 1), [0.0] * n) for n in (4, 6, 7, 12, 3, 1)]
    assert [(part.start, part.stop) for part in packs(trees, 10)] == [(0, 2), (2, 3), (3, 4), (4, 6)]
    assert list(packs([], 10)) == []
    assert [(part.start, part.stop) for part in packs([root_only(1)], 10)] == [(0, 1)]
