"""The target and decoding on a device, against the same weights on the CPU."""

from __future__ import annotations

import pytest
import torch

from edgeai import spec
from edgeai.spec.draft.eagle3 import Eagle3
from edgeai.spec.draft.tree import build_tree

PROMPT = [5, 40, 41, 42, 5, 40, 41, 43, 44, 45]
TREE = build_tree([50, 51, 52, 53, 54], [-1, 0, 0, 1, 3], [0.0, -0.1, -0.5, -0.6, -0.9])
LOGIT_BOUND = 2e-3
"""Both sides add at most 128 float32 products per output in different orders, over 8 layers; logits are below 30."""
TOKEN_MARGIN = 2 * LOGIT_BOUND
"""A wider gap between the two best logits stays a gap if each of them moves by the bound."""


def logits_on(target):
    """Logits of a prompt's last token, of a tree behind it, and of the next token behind an accepted path [7, V]."""
    cache = target.new_cache(64)
    on = target.device
    prefill = target.prefill(PROMPT, cache).logits
    tree = target.verify(TREE.tokens.to(on), TREE.depths.to(on), TREE.ancestors.to(on), cache).logits
    target.commit(cache, torch.tensor([0, 1, 3], device=on))  # root, 51, 53: a path that leaves out row 2
    after = target.verify(
        torch.tensor([60], device=on),
        torch.tensor([0], device=on),
        torch.ones(1, 1, dtype=torch.bool, device=on),
        cache,
    ).logits
    return torch.cat([prefill, tree, after]).cpu()


def test_logits_equal_those_on_the_cpu(device, model, reference):
    target = spec.load_target(model, dtype="float32", device=device)
    assert target.device.type == device
    torch.testing.assert_close(logits_on(target), logits_on(reference), atol=LOGIT_BOUND, rtol=0)


def test_cache_after_an_accepted_path_equals_a_fresh_prefill(device, model):
    target = spec.load_target(model, dtype="float32", device=device)
    fresh = target.prefill([*PROMPT, 50, 51, 53, 60], target.new_cache(64)).logits.cpu()
    torch.testing.assert_close(logits_on(target)[-1:], fresh, atol=LOGIT_BOUND, rtol=0)


@pytest.mark.parametrize("kind", ["none", "ngram", "eagle3"])
def test_greedy_tokens_equal_plain_decoding_on_the_cpu(kind, device, model, reference, make_head):
    target = spec.load_target(model, dtype="float32", device=device)
    draft = kind
    if kind == "eagle3":
        draft = Eagle3(make_head(target, draft_vocab=64).to(target.device), target, name="random")
    tree = spec.TreeConfig(nodes=6, depth=3, top_k=3)
    expected = spec.generate(reference, "abcabcabc", draft="none", max_tokens=24)
    found = spec.generate(target, "abcabcabc", draft=draft, tree=tree, max_tokens=24)
    assert len(expected.answers[0].ids) >= 8
    assert smallest_margin(reference, "abcabcabc", expected.answers[0].ids) > TOKEN_MARGIN
    assert found.answers[0].ids == expected.answers[0].ids


def smallest_margin(target, prompt, ids):
    """Smallest gap between the best and the second best logit over the tokens of an answer."""
    text = target.tokenizer.encode(target.tokenizer.render([{"role": "user", "content": prompt}], open_answer=True))
    gaps = []
    for end in range(len(ids)):
        best = target.prefill([*text, *ids[:end]], target.new_cache(512)).logits[0].topk(2).values
        gaps.append(float(best[0] - best[1]))
    return min(gaps)


def test_sampling_follows_the_seed(device, model):
    target = spec.load_target(model, dtype="float32", device=device)
    first, again, other = (
        spec.generate(target, "Hello", draft="none", max_tokens=24, temperature=1.0, seed=seed).answers[0].ids
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_half_precision_loads_and_generates(device, model):
    target = spec.load_target(model, dtype="auto", device=device)
    if device == "cuda":
        assert target.dtype in (torch.bfloat16, torch.float16)
    assert spec.generate(target, "Hello", draft="none", max_tokens=8).answers[0].ids
