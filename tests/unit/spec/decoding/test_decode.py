"""Speculative decoding writes what plain decoding writes, whatever the drafter proposes."""

import random

import pytest
import torch

from edgeai.core.errors import UsageError
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.decoding.decode import check_room, generate_ids
from edgeai.spec.draft.eagle3 import Eagle3
from edgeai.spec.draft.ngram import Ngram

GREEDY = SamplingConfig()
SHAPES = [(1, 1, 1), (3, 3, 1), (2, 1, 4), (7, 3, 4), (15, 5, 3), (59, 6, 8)]


def prompt_of(seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(1, 12) for _ in range(rng.randint(1, 20))]


def run(target, drafter, prompt, *, tree=(7, 3, 4), sampling=GREEDY, max_tokens=40, context=160, on_tokens=None):
    nodes, depth, top_k = tree
    return generate_ids(
        target,
        drafter,
        prompt,
        tree=TreeConfig(nodes=nodes, depth=depth, top_k=top_k),
        sampling=sampling,
        max_tokens=max_tokens,
        context=context,
        on_tokens=on_tokens,
    )


def plain_by_hand(target, prompt, max_tokens):
    """Greedy decoding by a whole forward pass per token."""
    ids = []
    while len(ids) < max_tokens and not (ids and ids[-1] in target.tokenizer.eos_ids):
        _, hidden = target.features(torch.tensor([[*prompt, *ids]]))
        ids.append(int(target.decoder.logits(hidden[0, -1]).argmax()))
    return tuple(ids)


@pytest.mark.parametrize("seed", range(5))
def test_plain_decoding_against_whole_forward_passes(target, seed):
    got = run(target, None, prompt_of(seed), max_tokens=25)
    assert got.ids == plain_by_hand(target, prompt_of(seed), 25)
    assert got.accept_len == 1.0
    assert got.num_cycles == len(got.ids) - 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_greedy_with_a_head_equals_plain(target, small_vocab_target, make_head, shape):
    accepted = 0
    for model, draft_vocab in ((target, 64), (small_vocab_target, 9)):
        for seed in range(6):
            drafter = Eagle3(make_head(model, draft_vocab=draft_vocab, seed=seed), model, name="x")
            plain = run(model, None, prompt_of(seed))
            got = run(model, drafter, prompt_of(seed), tree=shape)
            assert got.ids == plain.ids
            assert got.finish_reason == plain.finish_reason
            accepted += sum(got.accepted_at)
    assert accepted  # an untrained head is right now and then


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_long_accepted_paths_equal_plain(target, make_scripted, shape):
    for seed in range(10):
        plain = run(target, None, prompt_of(seed), max_tokens=60)
        got = run(target, make_scripted(plain.ids, 128, seed), prompt_of(seed), tree=shape, max_tokens=60)
        assert got.ids == plain.ids
        assert sum(got.accept_counts) == len(got.ids) - 1
        if shape == (59, 6, 8):
            assert got.accept_len > 2 or len(got.ids) < 10


def test_ngram_equals_plain(target, small_vocab_target):
    for model in (target, small_vocab_target):
        for seed in range(6):
            plain = run(model, None, prompt_of(seed), max_tokens=80)
            got = run(model, Ngram(max_ngram=3, min_ngram=1), prompt_of(seed), max_tokens=80)
            assert got.ids == plain.ids


@pytest.mark.parametrize("max_tokens", range(1, 9))
def test_length_limit_inside_a_path(target, make_scripted, max_tokens):
    for seed in range(5):
        plain = run(target, None, prompt_of(seed), max_tokens=max_tokens)
        whole = run(target, None, prompt_of(seed), max_tokens=20)
        got = run(target, make_scripted(whole.ids, 128, seed), prompt_of(seed), tree=(30, 6, 8), max_tokens=max_tokens)
        assert got.ids == plain.ids == whole.ids[:max_tokens]
        assert len(got.ids) == max_tokens or got.finish_reason == "stop"


def test_end_of_text_inside_a_path(target, make_scripted, monkeypatch):
    """Every token that plain decoding writes plays the end of text once."""
    inside = 0
    for seed in range(6):
        whole = run(target, None, prompt_of(seed), max_tokens=16).ids
        for end in set(whole):
            monkeypatch.setattr(target.tokenizer, "eos_ids", frozenset({end}))
            got = run(target, make_scripted(whole, 128, seed), prompt_of(seed), tree=(30, 6, 8), max_tokens=16)
            assert got.ids == whole[: whole.index(end) + 1]
            assert got.finish_reason == "stop"
            inside += bool(got.accept_counts) and got.accept_counts[-1] > 1
        monkeypatch.undo()
    assert inside > 10


@pytest.mark.parametrize("shape", [(7, 3, 4), (59, 8, 8)], ids=str)
def test_never_runs_over_the_models_positions(target, make_scripted, make_head, shape):
    limit = target.shape.max_positions
    prompt = [3, 5, 7] * ((limit - 12) // 3)
    plain = run(target, None, prompt, max_tokens=1000, context=100_000)
    assert len(prompt) + len(plain.ids) == limit or plain.finish_reason == "stop"
    for drafter in (
        make_scripted(plain.ids, 128, 0),
        Eagle3(make_head(target), target, name="x"),
        Ngram(max_ngram=3, min_ngram=1),
    ):
        assert run(target, drafter, prompt, tree=shape, max_tokens=1000, context=100_000).ids == plain.ids


def test_context_limits_prompt_and_answer_together(target):
    assert len(run(target, None, [5] * 20, context=24).ids) == 4
    with pytest.raises(UsageError) as error:
        run(target, None, [5] * 24, context=24)
    assert error.value.message == "the prompt has 24 tokens and the context holds 24, answer included"
    assert error.value.hint == "shorten the prompt, or raise `context` (the model allows 160)"
    with pytest.raises(UsageError, match="the prompt is empty"):
        check_room(target, 0, 24)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_seed_gives_the_same_text_plain_and_speculative(target, make_scripted, make_head, temperature):
    texts = set()
    for seed in range(8):
        sampling = SamplingConfig(temperature=temperature, top_p=0.95, seed=seed)
        plain = run(target, None, [5, 6, 7], sampling=sampling)
        assert run(target, None, [5, 6, 7], sampling=sampling).ids == plain.ids
        for drafter in (make_scripted(plain.ids, 128, seed), Eagle3(make_head(target, seed=seed), target, name="x")):
            assert run(target, drafter, [5, 6, 7], sampling=sampling).ids == plain.ids
        texts.add(plain.ids)
    assert len(texts) > 1


def test_counts_add_up(target, make_scripted):
    plain = run(target, None, [5, 6, 7], max_tokens=50)
    seen: list[int] = []
    drafter = make_scripted(plain.ids, 128, 4)
    got = run(target, drafter, [5, 6, 7], tree=(15, 4, 4), max_tokens=50, on_tokens=seen.extend)
    assert tuple(seen) == got.ids
    assert got.text == target.tokenizer.decode(got.ids)
    assert got.finish_reason == "length"  # so every cycle has a bonus token
    accepted = sum(got.accepted_at)
    assert accepted == sum(got.accepted_ranks) > 0
    assert accepted + got.num_cycles == sum(got.accept_counts)
    assert got.accepted_at == tuple(
        sum(count > depth for count in got.accept_counts) for depth in range(1, len(got.accepted_at) + 1)
    )
    assert got.accept_len == pytest.approx(1 + accepted / got.num_cycles)
    assert got.decode_s == got.draft_s + got.verify_s + got.commit_s > 0
    assert got.prefill_s > 0
