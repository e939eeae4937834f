"""Trees drafted along a text against those of the decoding drafter, which starts anew at every place.

Tolerance: as for the drafter itself, float32 sums in another order.
"""

import itertools

import pytest
import torch

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft import eagle3_batched as along
from edgeai.spec.draft.eagle3 import Eagle3, HeadLayer
from edgeai.spec.draft.eagle3_batched import propose_along

TOLERANCE = 5e-4
TEXT = [5, 17, 3, 99, 42, 7, 7, 120, 64, 31, 2, 88, 13, 9, 54, 21, 77, 8]
SWITCHES = [
    dict(zip(("fc_norm", "norm_output", "norm_before_residual"), flags, strict=True))
    for flags in itertools.product([False, True], repeat=3)
]


def features_of(target):
    return target.prefill(TEXT, target.new_cache(len(TEXT))).features


def one_by_one(head, target, roots, tree):
    """As in decoding: the prefix alone is prefilled and drafted from."""
    trees = []
    for root in roots:
        drafter = Eagle3(head, target, name="x")
        drafter.start(TEXT[:root], target.prefill(TEXT[:root], target.new_cache(root)).features)
        trees.append(drafter.propose(TEXT[root], tree))
    return trees


def assert_same(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.tokens, theirs.tokens)
        assert torch.equal(ours.parents, theirs.parents)
        torch.testing.assert_close(ours.scores, theirs.scores, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(name for name, on in s.items() if on) or "none")
@torch.inference_mode()
def test_equals_the_decoding_drafter(target, make_head, switches, monkeypatch):
    """Groups of adjacent places, several passes, the first place possible and the last."""
    monkeypatch.setattr(along, "PLACES_AT_ONCE", 3)
    head, roots = make_head(target, **switches), [1, 2, 3, 7, 8, 9, 16, 17]
    for tree in (TreeConfig(nodes=14, depth=4, top_k=3), TreeConfig(nodes=3, depth=3, top_k=1)):
        found = propose_along(HeadLayer(head, target), target, TEXT, features_of(target), roots, tree)
        assert_same(found, one_by_one(head, target, roots, tree))
        assert [int(each.tokens[0]) for each in found] == [TEXT[root] for root in roots]


@torch.inference_mode()
def test_one_level_and_more_children_than_the_draft_vocabulary(target, make_head):
    head = make_head(target, draft_vocab=3)
    for tree, size in ((TreeConfig(nodes=100, depth=2, top_k=8), 13), (TreeConfig(nodes=100, depth=1, top_k=8), 4)):
        found = propose_along(HeadLayer(head, target), target, TEXT, features_of(target), [4, 5], tree)
        assert_same(found, one_by_one(head, target, [4, 5], tree))
        assert [each.size for each in found] == [size, size]


def test_nowhere(target, make_head):
    layer = HeadLayer(make_head(target), target)
    assert propose_along(layer, target, TEXT, features_of(target), [], TreeConfig()) == []
