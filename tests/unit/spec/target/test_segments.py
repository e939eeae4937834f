"""Segments of many sequences in one pass against the whole texts, read one by one."""

from __future__ import annotations

import random

import pytest
import torch

from edgeai.spec.draft.tree import build_tree
from edgeai.spec.target.protocol import Segment


def path_of(tree, node):
    """Tokens from the root to a node."""
    tokens = []
    while node >= 0:
        tokens.append(int(tree.tokens[node]))
        node = int(tree.parents[node])
    return tokens[::-1]


def random_tree(rng, size):
    parents = [-1, *(rng.randrange(node) for node in range(1, size))]
    return build_tree([rng.randrange(1, 128) for _ in range(size)], parents, [0.0] * size)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_every_node_and_prompt_gets_the_logits_of_its_own_text(make_hf, family, make_target):
    hf = make_hf(family)
    target = make_target(hf)
    rng = random.Random(0)
    texts = [[rng.randrange(1, 128) for _ in range(length)] for length in (7, 19, 4)]
    cache = target.new_cache(64, 4)
    for row, text in enumerate(texts):
        target.prefill(text, cache, row)
    trees = [random_tree(rng, size) for size in (6, 1, 4)]
    prompt = [rng.randrange(1, 128) for _ in range(9)]
    segments = [Segment.of_tree(row, tree) for row, tree in enumerate(trees)]
    segments.insert(1, Segment.of_prompt(3, prompt, is_last=True))

    results = target.run_segments(segments, cache)

    assert cache.lengths == [7, 19, 4, 0]  # nothing is committed
    oracle = [
        (segment.row, path_of(trees[segment.row], node))
        for segment in segments
        if segment.row < 3
        for node in range(trees[segment.row].size)
    ]
    got = [results[i].logits[node] for i, s in enumerate(segments) if s.row < 3 for node in range(len(s.tokens))]
    for (row, path), logits in zip(oracle, got, strict=True):
        whole = hf(torch.tensor([texts[row] + path])).logits[0, -1]
        # float32, four layers: two orders of summation differ by about 1e-6
        torch.testing.assert_close(logits, whole, atol=2e-5, rtol=0)
    assert results[1].logits.shape == (1, 128)
    torch.testing.assert_close(results[1].logits[0], hf(torch.tensor([prompt])).logits[0, -1], atol=2e-5, rtol=0)
    assert results[1].features.shape == (9, 3 * 64)


def test_chunks_of_a_prompt_continue_each_other(make_hf, make_target):
    hf = make_hf()
    target = make_target(hf)
    ids = [5, 9, 77, 31, 2, 64, 18]
    cache = target.new_cache(16, 2)
    features = []
    for begin, end in ((0, 3), (3, 4), (4, 7)):
        (result,) = target.run_segments([Segment.of_prompt(1, ids[begin:end], is_last=end == 7)], cache)
        assert result.logits.shape[0] == (1 if end == 7 else 0)
        features.append(result.features)
        cache.lengths[1] = end
    torch.testing.assert_close(result.logits[0], hf(torch.tensor([ids])).logits[0, -1], atol=2e-5, rtol=0)
    whole, _ = target.features(torch.tensor([ids]))
    torch.testing.assert_close(torch.cat(features), whole[0], atol=2e-5, rtol=0)
