import torch

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.ngram import Ngram

CHAIN = TreeConfig(nodes=4, depth=4, top_k=1)


def drafter_after(text: list[int], *, max_ngram: int = 3, min_ngram: int = 1) -> Ngram:
    drafter = Ngram(max_ngram=max_ngram, min_ngram=min_ngram)
    drafter.start(text, torch.empty(len(text), 0))
    return drafter


def test_continues_the_longest_match():
    #                        a longer match, then a more recent shorter one
    drafter = drafter_after([1, 2, 3, 50, 51, 52, 7, 3, 60, 61, 1, 2])
    tree = drafter.propose(3, CHAIN)
    assert tree.tokens.tolist() == [3, 50, 51, 52, 7]
    assert tree.parents.tolist() == [-1, 0, 1, 2, 3]


def test_among_equal_matches_the_most_recent():
    assert drafter_after([3, 50, 3, 60, 61, 62, 63]).propose(3, CHAIN).tokens.tolist() == [3, 60, 61, 62, 63]


def test_a_repeating_text_goes_on_repeating():
    tree = drafter_after([1, 2, 3, 1, 2, 3, 1, 2]).propose(3, TreeConfig(nodes=3, depth=3, top_k=2))
    assert tree.tokens.tolist() == [3, 1, 2, 3]


def test_the_newest_token_can_be_the_continuation():
    assert drafter_after([5]).propose(5, CHAIN).tokens.tolist() == [5, 5]


def test_several_continuations_share_a_tree():
    drafter = drafter_after([3, 50, 51, 3, 50, 61, 3, 70])
    tree = drafter.propose(3, TreeConfig(nodes=6, depth=2, top_k=3))
    paths = {tuple(tree.tokens[row].tolist()) for row in tree.ancestors}
    assert paths == {(3,), (3, 70), (3, 70, 3), (3, 50), (3, 50, 61), (3, 50, 51)}


def test_nodes_and_depth_are_limits():
    drafter = drafter_after([3, *range(10, 30), 3, *range(40, 60)])
    for nodes in (1, 3, 7):
        tree = drafter.propose(3, TreeConfig(nodes=nodes, depth=5, top_k=2))
        assert tree.size == 1 + nodes
        assert tree.depths.max() <= 5


def test_no_match_is_no_draft():
    assert drafter_after([1, 2, 3]).propose(9, CHAIN).tokens.tolist() == [9]
    assert drafter_after([1, 2, 3], min_ngram=2).propose(2, CHAIN).tokens.tolist() == [2]


def test_generated_text_is_looked_up_too():
    drafter = drafter_after([1, 2, 3])
    drafter.accept([8, 9, 4], torch.empty(3, 0))
    assert drafter.propose(8, CHAIN).tokens.tolist() == [8, 9, 4, 8]
    drafter.start([1, 2], torch.empty(2, 0))
    assert drafter.propose(8, CHAIN).tokens.tolist() == [8]
