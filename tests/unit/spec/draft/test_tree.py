import random

import numpy as np
import pytest
import torch

from edgeai.spec.draft.tree import build_tree, rerank, root_only


def brute_force_ancestors(parents: list[int]) -> torch.Tensor:
    seen = torch.zeros(len(parents), len(parents), dtype=torch.bool)
    for node in range(len(parents)):
        current = node
        while current >= 0:
            seen[node, current] = True
            current = parents[current]
    return seen


@pytest.mark.parametrize("seed", range(20))
def test_ancestors_and_depths_against_brute_force(seed):
    rng = random.Random(seed)
    size = rng.randint(1, 64)
    parents = [-1, *(rng.randrange(node) for node in range(1, size))]
    tree = build_tree(list(range(size)), parents, [0.0] * size)
    expected = brute_force_ancestors(parents)
    assert torch.equal(tree.ancestors, expected)
    assert torch.equal(tree.depths, expected.sum(1) - 1)


def test_root_only_is_plain_decoding():
    tree = root_only(7)
    assert tree.size == 1
    assert tree.ancestors.tolist() == [[True]]
    assert tree.children() == {}


def random_candidates(seed: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = random.Random(seed)
    parents, scores = [], []
    for candidate in range(rng.randint(1, 80)):
        parent = rng.randrange(-1, candidate)
        step = rng.choice([0.0, -0.5]) if ties else -rng.random()
        parents.append(parent)
        scores.append((scores[parent] if parent >= 0 else 0.0) + step)
    return np.arange(100, 100 + len(parents)), np.array(parents), np.array(scores, dtype=np.float32)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_rerank_keeps_the_best_and_their_ancestors(seed, ties):
    tokens, parents, scores = random_candidates(seed, ties=ties)
    nodes = 1 + seed
    tree = rerank(5, tokens, parents, scores, nodes)
    kept = [token - 100 for token in tree.tokens.tolist()[1:]]
    assert tree.tokens[0] == 5
    assert len(kept) == min(nodes, len(tokens))
    assert kept == sorted(kept)  # order of creation: parents first
    # as confident as any other choice of this many, and every kept node hangs where it was created
    assert sorted(scores[kept]) == sorted(sorted(scores, reverse=True)[: len(kept)])
    for row, candidate in enumerate(kept, start=1):
        parent_row = tree.parents[row].item()
        parent = parents[candidate]
        assert parent_row == (0 if parent < 0 else 1 + kept.index(parent))


def test_ranks_put_parents_before_equally_confident_children():
    tree = build_tree([9, 1, 2, 3], [-1, 0, 1, 0], [0.0, -1.0, -1.0, -0.5])
    assert tree.ranks() == [0, 2, 3, 1]


def test_follow_stops_where_the_text_leaves_the_tree():
    tree = build_tree([9, 1, 2, 3, 4], [-1, 0, 0, 2, 3], [0.0, -1.0, -2.0, -3.0, -4.0])
    assert tree.follow([2, 3, 7]) == [0, 2, 3]
    assert tree.follow([2, 3, 4, 5]) == [0, 2, 3, 4]
    assert tree.follow([3]) == [0]
