"""The native draft head: torch's trees within rounding, and its own to the bit however it is asked.

Tolerance of float32 weights: sums in another order, a few of which round a key or value to the neighboring
half-precision number, 2^-11 apart. Errors of up to 7e-4 of a cumulative log probability were seen.
"""

import itertools
import logging
import random

import numpy as np
import pytest
import torch

from edgeai import spec
from edgeai.core.errors import EdgeAIError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.draft import Eagle3Draft, TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.draft import build as drafters
from edgeai.spec.draft.eagle3 import Eagle3
from edgeai.spec.draft.native_eagle3 import NativeEagle3
from edgeai.spec.draft.native_head import NativeHead, unsupported
from edgeai.spec.draft.rope import Rope
from edgeai.spec.serve.engine.eagle3_pool import NativePool

TOLERANCE = 1e-3
"""Per level: a key or value that lies between two half-precision numbers may be rounded to either, 1 part in 2,048."""
TREE = TreeConfig(nodes=14, depth=4, top_k=3)
SWITCHES = [
    dict(zip(("fc_norm", "norm_output", "norm_before_residual"), flags, strict=True))
    for flags in itertools.product([False, True], repeat=3)
]


class HalfKeys(Eagle3):
    """Torch with keys and values rounded to half precision, as the native runtime keeps them."""

    def _write(self, heads, begin, positions):
        query = super()._write(heads, begin, positions)
        for part in (self._k, self._v):
            new = part[:, :, begin : begin + len(heads)]
            new.copy_(new.half())
        return query


def drafter_of(head, target, packing="F32"):
    return NativeEagle3(NativeHead(head, target, packing=packing), name="x")


def random_text(length, seed=0):
    ids = torch.randint(0, 258, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return ids, torch.randn(length, 192, generator=torch.Generator().manual_seed(seed))


def play(drafter, tree=TREE, length=70, cycles=5):
    """Trees along a text whose tokens are accepted a few at a time."""
    ids, features = random_text(length + 30)
    drafter.start(ids[:length], features[:length])
    trees, end = [], length
    for cycle in range(cycles):
        if cycle != 2:  # a cycle without a proposal is caught up
            trees.append(drafter.propose(ids[end], tree))
        step = 1 + cycle
        drafter.accept(ids[end : end + step], features[end : end + step])
        end += step
    return trees


def assert_same_trees(trees, others):
    for tree, other in zip(trees, others, strict=True):
        for name in ("tokens", "parents", "depths", "ancestors", "scores"):
            assert torch.equal(getattr(tree, name), getattr(other, name))


def scores_by_path(tree):
    """Score of every node, by the tokens that lead to it."""
    paths = [()]
    for parent, token in zip(tree.parents.tolist()[1:], tree.tokens.tolist()[1:], strict=True):
        paths.append((*paths[parent], token))
    return dict(zip(paths, tree.scores.tolist(), strict=True))


def assert_close_trees(trees, others):
    """Equal but for rounding: only nodes that are chosen with no more than the tolerance to spare may differ."""
    for tree, other in zip(trees, others, strict=True):
        one, two = scores_by_path(tree), scores_by_path(other)
        assert len(one) == len(two) == tree.size
        assert len(one.keys() & two.keys()) >= 0.9 * tree.size
        for path in one.keys() & two.keys():
            assert abs(one[path] - two[path]) <= TOLERANCE * len(path)
        for own, strange in ((one, two), (two, one)):
            for path in own.keys() - strange.keys():
                assert own[path] - min(own.values()) <= TOLERANCE * len(path)


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(name for name, on in s.items() if on) or "none")
def test_trees_equal_those_of_torch(native, make_head, switches):
    target = native("F32")
    head = make_head(target, **switches)
    expected = play(HalfKeys(head, target, name="x"))
    assert max(int(tree.depths.max()) for tree in expected) >= 2
    assert_close_trees(play(drafter_of(head, target)), expected)


@pytest.mark.parametrize(
    "tree",
    [
        TreeConfig(nodes=1, depth=1, top_k=1),
        TreeConfig(nodes=5, depth=5, top_k=1),
        TreeConfig(nodes=100, depth=2, top_k=64),  # more children than the draft vocabulary has
        TreeConfig(nodes=60, depth=6, top_k=4),
    ],
    ids=str,
)
def test_trees_of_any_size_equal_those_of_torch(native, make_head, tree):
    target = native("F32")
    head = make_head(target, draft_vocab=21)
    expected = play(HalfKeys(head, target, name="x"), tree)
    assert_close_trees(play(drafter_of(head, target), tree), expected)


def test_a_head_with_its_own_rotary_embedding(native, make_head):
    target = native("F32")
    head = make_head(target)
    usual = play(drafter_of(head, target))
    object.__setattr__(head.shape, "rope", Rope(500.0))
    assert_close_trees(play(drafter_of(head, target)), play(HalfKeys(head, target, name="x")))
    assert any(not torch.equal(a.scores, b.scores) for a, b in zip(usual, play(drafter_of(head, target)), strict=True))


@pytest.mark.parametrize(("packing", "bound"), [("Q8_0", 0.05), ("Q4_1", 0.6)])
def test_quantized_weights_stay_close(native, make_head, packing, bound):
    """Mean error of the log probabilities, whose standard deviation is about 2; measured 0.02 and 0.4."""
    target = native("F32")
    head = make_head(target)
    whole = TreeConfig(nodes=64, depth=1, top_k=64)
    errors = []
    for tree, other in zip(
        play(drafter_of(head, target, packing), whole), play(HalfKeys(head, target, name="x"), whole), strict=True
    ):
        ours, theirs = (dict(zip(t.tokens.tolist(), t.scores.tolist(), strict=True)) for t in (tree, other))
        errors += [abs(ours[token] - theirs[token]) for token in ours]
    assert 0 < np.mean(errors) < bound


@pytest.mark.parametrize("packing", ["F32", "Q8_0", "Q4_1"])
def test_threads_and_variants_change_no_bit(native, library, make_head, packing):
    head = make_head(native("F32"))
    first = play(drafter_of(head, native("F32"), packing))
    for threads in (2, 3):
        assert_same_trees(play(drafter_of(head, native("F32", threads), packing)), first)
    for variant in range(library.handle.edgeai_num_variants()):
        assert_same_trees(play(drafter_of(head, native("F32", 2, variant), packing)), first)


@pytest.mark.parametrize("packing", ["F32", "Q8_0"])
def test_a_batch_drafts_as_each_sequence_alone_to_the_bit(native, make_head, packing):
    rng, target = random.Random(0), native("F32", 2)
    head = NativeHead(make_head(target), target, packing=packing)
    pool = NativePool(head, num_rows=4, capacity=120, max_tree=TREE)
    rows, lengths = (2, 0, 3), (5, 70, 12)
    texts, features = map(list, zip(*(random_text(n, seed) for seed, n in enumerate(lengths)), strict=True))
    alone = [NativeEagle3(head, name="x") for _ in rows]
    for row, drafter, text, feats in zip(rows, alone, texts, features, strict=True):
        drafter.start(text, feats)
        pool.begin(row, 0)
        pool.feed(row, text[:3], feats[:3])  # in two parts; the token after the first part is unknown at that time
        pool.feed(row, text, feats[3:])
    for cycle in range(4):
        for text in texts:
            text.append(rng.randrange(258))
        expected = [drafter.propose(text[-1], TREE) for drafter, text in zip(alone, texts, strict=True)]
        assert_same_trees(pool.propose(rows, texts, TREE), expected)
        for row, drafter, text in zip(rows, alone, texts, strict=True):
            new = [rng.randrange(258) for _ in range(cycle)]
            feats = torch.randn(1 + cycle, 192, generator=torch.Generator().manual_seed(cycle))
            drafter.accept([text[-1], *new], feats)
            text += new
            pool.feed(row, text, feats)


def test_a_copied_prefix_drafts_like_a_fed_one(native, make_head):
    target = native("F32")
    head = NativeHead(make_head(target), target)
    pool = NativePool(head, num_rows=2, capacity=60, max_tree=TREE)
    text, features = random_text(30)
    pool.begin(0, 0)
    pool.feed(0, [*text, 4], features)
    (expected,) = pool.propose([0], [[*text, 4]], TREE)
    assert pool.known(0) == 30
    pool.copy(0, 1, 21)
    pool.feed(1, [*text, 4], features[21:])
    assert_same_trees(pool.propose([1], [[*text, 4]], TREE), [expected])


def test_the_cache_grows_without_changing_a_tree(native, make_head):
    target = native("F32")
    head = make_head(target)
    small, large = drafter_of(head, target), drafter_of(head, target)
    small._cache = small.head.new_cache(16)
    assert_same_trees(play(small), play(large))
    assert small._cache.capacity > 16


def test_not_a_number_ends_no_process(native, make_head):
    target = native("F32")
    drafter = drafter_of(make_head(target), target)
    drafter.start([3, 4], torch.full((2, 192), float("nan")))
    tree = drafter.propose(5, TREE)
    assert tree.size == 15
    assert (tree.scores[1:] == -np.inf).all()
    assert tree.parents.tolist()[0] == -1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_speculation_with_a_head_writes_the_same_tokens(native, make_head, temperature):
    target = native("F32", 2)
    prompt = target.tokenizer.encode("abcabcabcabc")

    def answer(drafter):
        sampling = SamplingConfig(temperature=temperature, seed=1)
        return generate_ids(target, drafter, prompt, tree=TREE, sampling=sampling, max_tokens=48, context=128).ids

    assert answer(drafter_of(make_head(target), target, "Q8_0")) == answer(None)


def test_the_factory_takes_the_native_head_where_it_fits(native, make_head, monkeypatch, caplog):
    target, notes = native("F32"), []

    def built(head):
        monkeypatch.setattr(drafters, "load_head", lambda path, target: (head, None))
        metrics = Metrics(None)
        monkeypatch.setattr(metrics, "note", notes.append)
        return drafters.build_drafter(Eagle3Draft(path="x"), target, metrics)

    head = make_head(target)
    drafter = built(head)
    assert isinstance(drafter, NativeEagle3)
    assert drafter.name == f"eagle3-{drafters.head_hash(head)}-native"
    assert not notes
    object.__setattr__(head.shape, "intermediate_size", 120)
    assert isinstance(built(head), Eagle3)
    assert notes == ["the draft head runs in torch: its intermediate size 120 is not a multiple of 32"]
    with caplog.at_level(logging.INFO, logger="edgeai"):
        assert isinstance(spec.load_head("x", target), Eagle3)  # the Python API reports it too
    assert caplog.messages == notes
    object.__setattr__(head.shape, "intermediate_size", 128)
    object.__setattr__(head.shape, "head_dim", 8)
    assert unsupported(head.shape) == "its head width 8 is not a multiple of 16"


def test_a_head_of_another_shape_is_named(native, small_vocab_target, make_head):
    with pytest.raises(EdgeAIError, match=r"the draft head does not fit .*: its vocabulary is 12"):
        NativeHead(make_head(small_vocab_target, draft_vocab=8), native("F32"))
