"""The lean decoder against transformers' own modules, for every supported family.

Tolerance: both compute in float32 with sums of up to 96 products in another order; logits reach about 20, so 2e-4 is
ten times float32's resolution there after four layers.
"""

import pytest
import torch

from edgeai.spec.draft.tree import build_tree
from edgeai.spec.target.attention import rotary_table, rotate

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
TOLERANCE = 2e-4
PROMPT = [5, 17, 3, 99, 42, 7, 7, 120, 64, 31, 2]


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, make_hf, make_target):
    hf = make_hf(request.param)
    return hf, make_target(hf)


def hf_logits(hf, ids):
    with torch.inference_mode():
        return hf(torch.tensor([ids])).logits[0]


def close(a, b):
    return torch.allclose(a, b, atol=TOLERANCE, rtol=0)


def test_prefill(pair):
    hf, target = pair
    forward = target.prefill(PROMPT, target.new_cache(20))
    assert close(forward.logits[0], hf_logits(hf, PROMPT)[-1])


def test_features_are_the_states_entering_the_layers(pair):
    hf, target = pair
    with torch.inference_mode():
        states = hf(torch.tensor([PROMPT]), output_hidden_states=True).hidden_states
    expected = torch.cat([states[layer][0] for layer in target.aux_layers], -1)
    assert close(target.prefill(PROMPT, target.new_cache(20)).features, expected)
    whole, hidden = target.features(torch.tensor([PROMPT]))
    assert close(whole[0], expected)
    assert close(target.decoder.logits(hidden[0]), hf_logits(hf, PROMPT))


@pytest.mark.parametrize("chunk", [1, 3, 10])
def test_chunked_prefill(pair, chunk):
    _, target = pair
    whole = target.prefill(PROMPT, target.new_cache(20))
    cache = target.new_cache(20)
    parts = target.prefill(PROMPT, cache, chunk=chunk)
    assert cache.lengths == [len(PROMPT)]
    assert close(parts.logits, whole.logits)
    assert close(parts.features, whole.features)


def test_a_tree_is_verified_as_its_paths_one_by_one(pair):
    hf, target = pair
    tree = build_tree([8, 1, 2, 3, 4, 5, 6], [-1, 0, 0, 1, 1, 2, 3], [0.0] * 7)
    cache = target.new_cache(20)
    target.prefill(PROMPT, cache)
    logits = target.verify(tree.tokens, tree.depths, tree.ancestors, cache).logits
    for node in range(tree.size):
        path = tree.tokens[tree.ancestors[node]].tolist()
        assert close(logits[node], hf_logits(hf, PROMPT + path)[-1])


def test_decoding_a_batch_of_different_lengths(pair):
    hf, target = pair
    texts = [PROMPT, PROMPT[:4], PROMPT[2:9]]
    cache = target.new_cache(20, batch=3)
    for row, text in enumerate(texts):
        target.prefill(text, cache, row)
    for step, tokens in enumerate(([9, 8, 7], [6, 5, 4])):
        active = [True, step == 0, True]  # the second sequence ends after its first token
        logits = target.decode(torch.tensor(tokens), cache, active)
        for row, is_active in enumerate(active):
            if is_active:
                texts[row] = [*texts[row], tokens[row]]
                assert close(logits[row], hf_logits(hf, texts[row])[-1])
    assert cache.lengths == [len(text) for text in texts]


@pytest.mark.parametrize("path", [[0], [0, 1], [0, 2], [0, 1, 3], [0, 2, 5], [0, 1, 3, 6], [0, 1, 4]])
def test_cache_after_commit_equals_a_fresh_prefill(target, path):
    tree = build_tree([8, 1, 2, 3, 4, 5, 6], [-1, 0, 0, 1, 1, 2, 3], [0.0] * 7)
    cache = target.new_cache(30)
    target.prefill(PROMPT, cache)
    target.verify(tree.tokens, tree.depths, tree.ancestors, cache)
    target.commit(cache, torch.tensor(path))
    text = PROMPT + tree.tokens[path].tolist()
    fresh = target.new_cache(30)
    target.prefill(text, fresh)
    assert cache.lengths == fresh.lengths == [len(text)]
    for layer in range(target.shape.num_layers):
        for rows, expected in ((cache.k, fresh.k), (cache.v, fresh.v)):
            assert close(rows[layer][:, :, : len(text)], expected[layer][:, :, : len(text)])
    # and what a dropped branch left behind is not seen by the next pass
    one = (torch.tensor([3]), torch.tensor([0]), torch.ones(1, 1, dtype=torch.bool))
    assert close(target.verify(*one, cache).logits, target.verify(*one, fresh).logits)


def test_commit_of_one_row_leaves_the_others_alone(target):
    cache = target.new_cache(20, batch=2)
    target.prefill(PROMPT, cache, 0)
    target.prefill(PROMPT[:5], cache, 1)
    before = [rows[0].clone() for rows in cache.k]
    tree = build_tree([8, 1, 2], [-1, 0, 0], [0.0] * 3)
    target.verify(tree.tokens, tree.depths, tree.ancestors, cache, row=1)
    target.commit(cache, torch.tensor([0, 2]), row=1)
    assert cache.lengths == [len(PROMPT), 7]
    assert all(torch.equal(rows[0], old) for rows, old in zip(cache.k, before, strict=True))


def test_rotate_against_the_textbook_formula():
    width, position = 8, 5
    inv_freq = 1 / 100.0 ** (torch.arange(0, width, 2) / width)
    cos, sin = rotary_table(inv_freq, 1.0, 10, torch.float32)
    x = torch.randn(width, generator=torch.Generator().manual_seed(0))
    got = rotate(x, cos[position], sin[position])
    for i in range(width // 2):
        angle = position * inv_freq[i]
        a, b = x[i], x[i + width // 2]
        assert got[i] == pytest.approx(float(a * angle.cos() - b * angle.sin()), abs=1e-6)
        assert got[i + width // 2] == pytest.approx(float(b * angle.cos() + a * angle.sin()), abs=1e-6)
