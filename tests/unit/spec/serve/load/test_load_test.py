"""Percentiles and answer checks of the load test, and a small run on the tiny model."""

from __future__ import annotations

import pytest
import torch

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.load import LoadConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.serve import ServeConfig
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.decoding.generate import chat_ids
from edgeai.spec.serve.load.check_answers import AnswerChecker
from edgeai.spec.serve.load.load_test import percentile, run_load


def test_percentiles():
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.95), percentile(values, 0.99)) == (50.0, 95.0, 99.0)
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert percentile([1.0, 2.0, 3.0], 0.99) == 3.0
    assert percentile([], 0.5) == 0.0


def test_wrong_answers_are_found(target):
    """Greedy answers pass; a swapped token, a missing one or another answer's do not."""
    texts = ["hello", "what now"]
    plain = [
        generate_ids(
            target,
            None,
            chat_ids(target.tokenizer, text),
            tree=TreeConfig(),
            sampling=SamplingConfig(),
            max_tokens=12,
            context=128,
        ).ids
        for text in texts
    ]
    checker = AnswerChecker(target, texts, max_tokens=12)
    assert [checker.judge(n, plain[n]) for n in (0, 1)] == ["equal", "equal"]
    swapped = (*plain[0][:5], (plain[0][5] + 1) % 128, *plain[0][6:])
    assert [checker.judge(0, ids) for ids in (swapped, plain[0][:-1], plain[1], ())] == ["wrong"] * 4


def test_a_near_tie_in_bfloat16_is_not_wrong(make_hf, make_target):
    """Two tokens with equal output weights: either may be chosen; a token with a much lower logit may not."""
    hf = make_hf()
    with torch.no_grad():
        hf.lm_head.weight[7] = hf.lm_head.weight[9]
    target = make_target(hf, dtype=torch.bfloat16)
    checker = AnswerChecker(target, ["x"], max_tokens=12)
    prompt = chat_ids(target.tokenizer, "x")
    plain = generate_ids(
        target, None, prompt, tree=TreeConfig(), sampling=SamplingConfig(), max_tokens=12, context=128
    ).ids
    assert checker.judge(0, plain) == "equal"
    for place, token in enumerate(plain):
        other = {7: 9, 9: 7}.get(token)
        if other is not None:
            start = (*plain[:place], other)
            rest = generate_ids(
                target,
                None,
                [*prompt, *start],
                tree=TreeConfig(),
                sampling=SamplingConfig(),
                max_tokens=11 - place,
                context=128,
            ).ids
            assert checker.judge(0, (*start, *rest)) == "tie"
            break
    worst = int(target.prefill(prompt, target.new_cache(64)).logits[-1].argmin())
    assert checker.judge(0, (worst, *plain[1:])) == "wrong"


@pytest.mark.slow
def test_a_small_load(tiny_folder, make_run):
    serve = ServeConfig(
        target=TargetConfig(model=str(tiny_folder), dtype="float32"),
        draft={"kind": "ngram"},
        tree=TreeConfig(nodes=4, depth=3, top_k=2),
        slots=3,
    )
    cfg = LoadConfig(serve=serve, clients=(1, 4), requests=6, max_tokens=24, max_prompts=3, memory_requests=40)
    report = run_load(cfg, make_run(cfg))
    assert report.is_ok
    assert [(one.clients, one.speculates) for one in report.rounds] == [(1, True), (1, False), (4, True), (4, False)]
    assert [one.num_requests for one in report.rounds] == [6, 6, 8, 8]
    assert len({one.num_tokens for one in report.rounds[:2]}) == 1  # the same answers
    assert report.rounds[1].accept_len == report.rounds[3].accept_len == 1.0
    assert report.rounds[0].accept_len > 1.0
    assert all(0 < one.gap_s[0] <= one.gap_s[1] <= one.gap_s[2] for one in report.rounds)
    assert len(report.memory_bytes) == 5
    assert max(report.memory_bytes) < 1.05 * min(report.memory_bytes)
