"""Batched drafting against one `Eagle3` drafter per text."""

from __future__ import annotations

import random

import pytest
import torch

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.eagle3 import Eagle3

TREE = TreeConfig(nodes=6, depth=3, top_k=3)


@pytest.mark.parametrize("norms", [True, False])
def test_trees_equal_those_of_a_separate_drafter(target, make_head, norms):
    from edgeai.spec.serve.engine.eagle3_pool import Eagle3Pool

    rng = random.Random(0)
    head = make_head(target, fc_norm=norms, norm_output=norms)
    layer = Eagle3(head, target, name="a").layer
    pool = Eagle3Pool(layer, target, num_rows=4, capacity=120, max_tree=TREE)
    rows = (2, 0, 3)
    texts = [[rng.randrange(128) for _ in range(length)] for length in (5, 70, 12)]
    features = [
        torch.randn(len(text), 3 * 64, generator=torch.Generator().manual_seed(n)) for n, text in enumerate(texts)
    ]
    alone = [Eagle3(head, target, name="a") for _ in rows]
    for row, drafter, text, feats in zip(rows, alone, texts, features, strict=True):
        drafter.start(text, feats)
        pool.begin(row, 0)
        pool.feed(row, text[:3], feats[:3])  # in two parts; the token after the first part is unknown at that time
        pool.feed(row, text, feats[3:])
    for cycle in range(4):
        for text in texts:
            text.append(rng.randrange(128))
        expected = [drafter.propose(text[-1], TREE) for drafter, text in zip(alone, texts, strict=True)]
        trees = pool.propose(rows, texts, TREE)
        for tree, other in zip(trees, expected, strict=True):
            assert tree.tokens.tolist() == other.tokens.tolist()
            assert tree.parents.tolist() == other.parents.tolist()
            torch.testing.assert_close(tree.scores, other.scores, atol=2e-5, rtol=0)
        for row, drafter, text in zip(rows, alone, texts, strict=True):
            new = [rng.randrange(128) for _ in range(cycle)]
            feats = torch.randn(1 + cycle, 3 * 64)
            drafter.accept([text[-1], *new], feats)
            text += new
            pool.feed(row, text, feats)


def test_a_copied_prefix_drafts_like_a_fed_one(target, make_pool):
    pool = make_pool(target, "eagle3", num_rows=2, capacity=60)
    rng = random.Random(1)
    text = [rng.randrange(128) for _ in range(30)]
    features = torch.randn(30, 3 * 64)
    pool.begin(0, 0)
    pool.feed(0, [*text, 4], features)
    (expected,) = pool.propose([0], [[*text, 4]], TREE)
    assert pool.known(0) == 30
    pool.copy(0, 1, 20)
    pool.feed(1, [*text, 4], features[20:])
    (tree,) = pool.propose([1], [[*text, 4]], TREE)
    assert tree.tokens.tolist() == expected.tokens.tolist()
    torch.testing.assert_close(tree.scores, expected.scores, atol=2e-5, rtol=0)
