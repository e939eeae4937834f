"""The native target: equal to torch within float32, and equal to itself to the bit however it is asked."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.draft.ngram import Ngram
from edgeai.spec.draft.tree import build_tree, root_only
from edgeai.spec.target import build
from edgeai.spec.target.build import build_target
from edgeai.spec.target.native import library as library_module
from edgeai.spec.target.native.target import PACK_NODES
from edgeai.spec.target.protocol import Segment
from edgeai.spec.target.tree_scoring import room

KINDS = ("F32", "Q4_0", "Q4_1", "Q8_0")


def random_tree(rng, size):
    parents = [-1, *(int(rng.integers(0, node)) for node in range(1, size))]
    return build_tree(rng.integers(0, 256, size).tolist(), parents, [0.0] * size)


def answer(target, drafter, *, temperature=0.0, seed=0, on_tokens=None):
    prompt = target.tokenizer.encode("abcabcabcabc")
    found = generate_ids(
        target,
        drafter,
        prompt,
        tree=TreeConfig(nodes=6, depth=4, top_k=2),
        sampling=SamplingConfig(temperature=temperature, seed=seed),
        max_tokens=48,
        context=128,
        on_tokens=on_tokens,
    )
    return found.ids


def test_float32_weights_give_what_torch_gives(native, tiny_target):
    """The same sums in another order: float32 rounding of 8 layers of width 64 stays far below 1e-3."""
    ours, ids = native("F32"), list(range(40, 90))
    assert ours.fingerprint == tiny_target.fingerprint
    assert replace(ours.shape, rms_norm_eps=1e-5) == tiny_target.shape  # the file holds it in float32
    a, b = (target.prefill(ids, target.new_cache(64)) for target in (ours, tiny_target))
    torch.testing.assert_close(a.logits, b.logits, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(a.features, b.features, atol=1e-3, rtol=1e-3)
    assert torch.equal(ours.embedding, tiny_target.embedding)
    assert torch.equal(ours.lm_head, tiny_target.lm_head)
    some = torch.tensor([[3, 255], [0, 3]])
    assert torch.equal(ours.embed(some), tiny_target.embed(some))
    features, hidden = ours.features(torch.tensor([ids, ids[::-1]]))
    theirs, their_hidden = tiny_target.features(torch.tensor([ids, ids[::-1]]))
    torch.testing.assert_close(features, theirs, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(hidden, their_hidden, atol=1e-3, rtol=1e-3)


def test_torch_leaves_the_cores_to_the_runtime_while_it_decodes(native, tiny_target, monkeypatch):
    num_threads, found = torch.get_num_threads, []
    before, targets = num_threads(), ((native("Q4_1"), 1), (tiny_target, 2))
    monkeypatch.setattr(torch, "get_num_threads", num_threads)  # the fixture has set a number of its own
    try:
        torch.set_num_threads(2)
        for target, expected in targets:
            answer(target, None, on_tokens=lambda _: found.append(num_threads()))
            assert (set(found), num_threads()) == ({expected}, 2)
            found.clear()
    finally:
        torch.set_num_threads(before)


def test_segments_of_several_sequences_give_what_each_gives_alone_to_the_bit(native):
    target, rng = native("Q4_1", 2), np.random.default_rng(3)
    texts = [list(range(40, 47)), list(range(60, 95)), [70, 71, 72], []]
    trees = [random_tree(rng, size) for size in (6, 1, 9)]
    prompt = rng.integers(0, 256, 21).tolist()
    segments = [Segment.of_tree(row, tree) for row, tree in enumerate(trees)]
    segments.insert(1, Segment.of_prompt(3, prompt, is_last=True))
    batch = target.new_cache(80, 4)
    for row, ids in enumerate(texts[:3]):
        target.prefill(ids, batch, row)
    results = target.run_segments(segments, batch)
    assert batch.lengths == [7, 35, 3, 0]  # nothing is committed
    whole = target.prefill(prompt, target.new_cache(80))
    assert torch.equal(results.pop(1).logits, whole.logits)
    paths = [(row, [at for at in range(tree.size) if tree.ancestors[-1, at]]) for row, tree in enumerate(trees)]
    target.commit_paths(batch, paths)
    for (row, path), tree, result in zip(paths, trees, results, strict=True):
        alone = target.new_cache(80)
        target.prefill(texts[row], alone)
        expected = target.verify(tree.tokens, tree.depths, tree.ancestors, alone)
        assert torch.equal(result.logits, expected.logits)
        assert torch.equal(result.features, expected.features)
        target.commit(alone, torch.tensor(path))
        root = root_only(5)
        after = target.verify(root.tokens, root.depths, root.ancestors, alone).logits
        assert torch.equal(target.run_segments([Segment.of_tree(row, root)], batch)[0].logits, after)


def test_a_copied_prefix_is_a_text_of_its_own(native):
    """Counts around the 16 tokens that keys are stored in."""
    target, ids = native("Q4_1"), list(range(40, 90))
    for count in (1, 15, 16, 17, 33, 50):
        cache, alone = target.new_cache(96, 3), target.new_cache(96)
        target.prefill(ids, cache, 0)
        target.prefill([7] * 60, cache, 2)
        cache.copy(0, 2, count)
        target.prefill(ids[:count], alone)
        assert cache.lengths == [50, 0, count]
        assert torch.equal(target.prefill([5, 6, 7], cache, 2).logits, target.prefill([5, 6, 7], alone).logits)


def test_many_trees_of_one_text_are_scored_as_each_alone_to_the_bit(native):
    target, rng, ids = native("Q4_1", 2), np.random.default_rng(4), list(range(40, 90))
    prefixes = sorted(int(prefix) for prefix in rng.integers(1, 50, 30))
    trees = [random_tree(rng, int(size)) for size in rng.integers(1, 14, 30)]
    trees[3] = random_tree(rng, PACK_NODES + 9)  # a pack of its own
    cache = target.new_cache(50 + room(PACK_NODES + 9, target.device))
    target.prefill(ids, cache)
    together = target.score_trees(trees, prefixes, cache)
    assert cache.lengths == [50]
    for tree, prefix, scores in zip(trees, prefixes, together, strict=True):
        alone = target.new_cache(130)
        target.prefill(ids[:prefix], alone)
        logits = target.verify(tree.tokens, tree.depths, tree.ancestors, alone).logits
        assert torch.equal(scores.best, logits.argmax(-1))
        expected = logits.log_softmax(-1)[tree.parents[1:], tree.tokens[1:]]
        torch.testing.assert_close(scores.log_probs[1:], expected)


def test_choices_of_a_text_are_those_of_decoding_it(native):
    target, ids = native("Q4_1", 2), torch.arange(150).view(2, 75) % 200 + 30  # two chunks each
    features, hidden, choices = target.features_and_choices(ids)
    assert torch.equal(features, target.features(ids)[0])
    assert torch.equal(hidden, target.features(ids)[1])
    for text, best in zip(ids, choices, strict=True):
        cache = target.new_cache(75)
        steps = [target.prefill([token], cache).logits.argmax() for token in text.tolist()]
        assert torch.equal(torch.stack(steps), best)


def test_only_active_sequences_are_decoded(native):
    target = native("Q4_1")
    batch, alone = target.new_cache(32, 3), target.new_cache(32)
    for row in range(3):
        target.prefill([40 + row, 50], batch, row)
    target.prefill([42, 50], alone)
    logits = target.decode(torch.tensor([1, 2, 3]), batch, [False, False, True])
    assert batch.lengths == [2, 2, 3]
    assert logits.shape == (3, 258)
    assert torch.equal(logits[2:], target.decode(torch.tensor([3]), alone, [True]))


def test_trees_are_scored_as_torch_scores_them(native, tiny_target):
    rng, ids = np.random.default_rng(0), list(range(40, 90))
    trees, prefixes = [random_tree(rng, 6), random_tree(rng, 9)], [20, 33]
    found = []
    for target in (native("F32"), tiny_target):
        cache = target.new_cache(160)
        target.prefill(ids, cache)
        found.append(target.score_trees(trees, prefixes, cache, temperature=0.7))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours.log_probs, theirs.log_probs, atol=1e-3, rtol=1e-3)
        assert torch.equal(ours.best, theirs.best)


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_of_a_tree_is_what_it_is_alone_to_the_bit(native, kind):
    rng, ids = np.random.default_rng(1), list(range(50, 73))
    target = native(kind)
    for size in (1, 2, 5, 9, 17):
        tree = random_tree(rng, size)
        cache = target.new_cache(96)
        target.prefill(ids, cache)
        together = target.verify(tree.tokens, tree.depths, tree.ancestors, cache)
        node = int(rng.integers(0, size))
        path = [at for at in range(size) if tree.ancestors[node, at]]
        alone = target.new_cache(96)
        target.prefill(ids, alone)
        for at in path:
            one = torch.tensor([0])
            step = target.verify(tree.tokens[at : at + 1], one, torch.ones(1, 1, dtype=torch.bool), alone)
            target.commit(alone, one)
        assert torch.equal(step.logits[0], together.logits[node])
        assert torch.equal(step.features[0], together.features[node])
        target.commit(cache, torch.tensor(path))  # and after the path is committed, the caches go on alike
        after = [
            target.verify(tree.tokens[:1], torch.tensor([0]), torch.ones(1, 1, dtype=torch.bool), c)
            for c in (cache, alone)
        ]
        assert torch.equal(after[0].logits, after[1].logits)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_variants_and_chunks_change_no_bit(native, library, kind, monkeypatch):
    ids, rng = list(range(30, 110)), np.random.default_rng(2)
    tree = random_tree(rng, 11)

    def outcome(target, chunk=64):
        monkeypatch.setattr("edgeai.spec.target.native.target.PROMPT_CHUNK", chunk)
        cache = target.new_cache(128)
        prompt = target.prefill(ids, cache)
        found = target.verify(tree.tokens, tree.depths, tree.ancestors, cache)
        return torch.cat([prompt.logits.flatten(), prompt.features.flatten(), found.logits.flatten()])

    first = outcome(native(kind))
    for chunk in (1, 7, 33):
        assert torch.equal(outcome(native(kind), chunk), first)
    for threads in (2, 3):
        assert torch.equal(outcome(native(kind, threads)), first)
    for variant in range(library.handle.edgeai_num_variants()):
        assert torch.equal(outcome(native(kind, 2, variant)), first)


def test_a_batch_decodes_as_each_sequence_alone(native):
    target, texts = native("Q4_1", 2), [list(range(40, 47)), list(range(60, 85))]
    batch = target.new_cache(64, 2)
    for row, ids in enumerate(texts):
        target.prefill(ids, batch, row)
    together = [target.decode(torch.tensor([5, 9]), batch, [True, True]) for _ in range(3)]
    for row, (ids, token) in enumerate(zip(texts, (5, 9), strict=True)):
        alone = target.new_cache(64)
        target.prefill(ids, alone)
        for step in together:
            assert torch.equal(target.decode(torch.tensor([token]), alone, [True])[0], step[row])
    batch.shrink([1])
    assert batch.lengths == [28]
    assert torch.equal(
        target.decode(torch.tensor([9]), batch, [True])[0], target.decode(torch.tensor([9]), alone, [True])[0]
    )


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_speculation_writes_the_same_tokens(native, temperature):
    for seed in range(3):
        plain = answer(native("Q4_1"), None, temperature=temperature, seed=seed)
        drafted = answer(native("Q4_1", 2), Ngram(max_ngram=3, min_ngram=1), temperature=temperature, seed=seed)
        assert drafted == plain
        assert len(plain) > 5


def test_the_other_rotary_layout(native, tiny_target):
    """qwen2 files keep the pairs (i, i + hd / 2) that torch has."""
    ids = list(range(40, 60))
    a, b = (target.prefill(ids, target.new_cache(32)) for target in (native("F32", arch="qwen2"), tiny_target))
    torch.testing.assert_close(a.logits, b.logits, atol=1e-3, rtol=1e-3)


def test_files_that_cannot_be_run_are_refused_with_the_reason(write_gguf, library, tmp_path):
    def refused(path, error=UsageError):
        with pytest.raises(error) as caught:
            build_target(TargetConfig(model=str(path), runtime="native"), device="cpu", metrics=Metrics(None))
        return str(caught.value)

    assert refused(tmp_path / "none.gguf") == f"no such GGUF file: {tmp_path / 'none.gguf'}"
    assert refused(tmp_path).endswith("is not a model folder: config.json is missing")
    assert "has the architecture 'gemma', not llama" in refused(write_gguf("F32", "gemma"))
    assert "rotary scaling has the type 'longrope'" in refused(write_gguf("F32", rope__scaling__type="longrope"))
    assert "has no tensor 'blk.3.ffn_up.weight'" in refused(
        write_gguf("F32", drop=("blk.3.ffn_up.weight",)), EdgeAIError
    )
    whole = write_gguf("Q8_0").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    assert "is not a readable GGUF file" in refused(tmp_path / "cut.gguf", EdgeAIError)


def test_without_a_compiler_the_hint_names_torch(write_gguf, monkeypatch):
    def unavailable():
        raise library_module.Unavailable("there is no C++ compiler")

    monkeypatch.setattr(build, "load_library", unavailable)
    with pytest.raises(UsageError, match="there is no C\\+\\+ compiler") as caught:
        build_target(TargetConfig(model=str(write_gguf("F32")), runtime="native"), device="cpu", metrics=Metrics(None))
    assert caught.value.hint == "use -s target.runtime=torch"


def test_the_memory_of_a_cache_is_what_it_reserves(native):
    target = native("Q4_1")
    for capacity in (1, 16, 40):
        assert target.new_cache(capacity, 3)._data.nbytes == 3 * target.cache_bytes(capacity)
