"""The losslessness check of bench on decoders with injected bugs, and its statistics against the answers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from edgeai.core.errors import UsageError
from edgeai.core.metrics import Metrics
from edgeai.core.stats import Spread
from edgeai.spec.config.bench import BenchConfig
from edgeai.spec.config.draft import NgramDraft, NoDraft, TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.decoding import decode
from edgeai.spec.decoding.verify import Accepted
from edgeai.spec.draft.tree import DraftTree
from edgeai.spec.evaluation.bench import bench as bench_module
from edgeai.spec.evaluation.bench import repeats as bench_repeats
from edgeai.spec.evaluation.bench.bench import plan_bench, run_bench
from edgeai.spec.evaluation.bench.report import BenchReport
from edgeai.spec.target.protocol import Forward
from edgeai.spec.target.torch_runtime import DecoderTarget

PROMPTS = "abcabcabcabc\nto be or not to be, to be or not\n1 2 3 1 2 3 1 2 3\n"


@pytest.fixture
def bench(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, target: DecoderTarget) -> Any:
    """bench(target=..., **options): report on three repetitive prompts, which n-grams can draft."""
    path = tmp_path / "prompts.txt"
    path.write_text(PROMPTS)

    def run(target: DecoderTarget = target, **options: Any) -> BenchReport:
        monkeypatch.setattr(bench_module, "build_target", lambda *_, **__: target)
        monkeypatch.setattr(bench_module, "measure_verify", lambda *_, **__: {1: 1e-3, 2: 2e-3})
        defaults = {
            "draft": NgramDraft(),
            "tree": TreeConfig(nodes=5, depth=4, top_k=2),
            "prompts": str(path),
            "max_tokens": 40,
            "repeats": 2,
        }
        cfg = BenchConfig(**{**defaults, **options})
        return run_bench(cfg, SimpleNamespace(metrics=Metrics(None), device="cpu", info={"device": "cpu"}))

    return run


def test_float32_is_equal_token_for_token(bench: Any) -> None:
    report = bench()
    assert report.lossless.ok
    assert report.lossless.num_equal == report.lossless.num_answers == 3
    assert report.accept_len > 1.2  # else no draft token was accepted, and the test shows nothing


def test_sums_and_definitions_agree(bench: Any) -> None:
    report = bench()
    assert report.accept_len == report.num_tokens / report.num_cycles
    # each accepted draft token is one token more than plain decoding's one per cycle; the last cycle of an answer may
    # end without its bonus token
    accepted = sum(report.acceptance) * report.num_cycles
    assert report.num_tokens <= report.num_cycles + accepted <= report.num_tokens + report.num_answers
    assert all(a >= b for a, b in zip(report.acceptance, report.acceptance[1:], strict=False))
    assert report.ratio.minimum <= report.ratio.median <= report.ratio.maximum
    assert [cost.num_tokens for cost in report.cost_curve] == [1, 2]
    assert set(report.to_json()["lossless"]) >= {"ok", "num_equal", "num_ties", "num_mismatches"}


def test_same_seed_gives_the_same_sample(bench: Any) -> None:
    report = bench(sampling=SamplingConfig(temperature=1.0, top_p=0.9, seed=5))
    assert report.lossless.num_equal == 3


def accept_a_wrong_token(tree: DraftTree, logits: torch.Tensor, sampler: Any, **options: Any) -> Accepted:
    """Acceptance with a bug: the first child of the root is always accepted."""
    found = accept(tree, logits, sampler, **options)
    if tree.size > 1 and found.num_accepted == 0 and options["limit"] > 1:
        return Accepted((0, 1), (int(tree.tokens[1]), found.tokens[0]))
    return found


accept = decode.accept


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_wrongly_accepted_token_is_found(
    bench: Any, make_hf: Any, make_target: Any, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(decode, "accept", accept_a_wrong_token)
    report = bench(make_target(make_hf(), dtype=dtype), max_prompts=2, repeats=1)
    assert not report.lossless.ok
    assert report.lossless.num_mismatches > 0
    assert "the token does not follow from the logits" in {d.difference.why for d in report.lossless.differences}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_wrong_tree_mask_is_found(
    bench: Any, make_hf: Any, make_target: Any, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, temperature: float
) -> None:
    """Attention across branches shifts the logits by more than rounding."""
    target = make_target(make_hf(), dtype=dtype)
    verify = target.verify
    monkeypatch.setattr(target, "verify", lambda t, d, a, c, row=0: verify(t, d, torch.ones_like(a), c, row))
    report = bench(target, max_prompts=2, repeats=1, sampling=SamplingConfig(temperature=temperature))
    assert not report.lossless.ok
    assert report.lossless.num_mismatches > 0


def test_a_wrong_commit_is_found(bench: Any, make_hf: Any, make_target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeping the first rows instead of the accepted ones keeps the keys and values of other tokens."""
    target = make_target(make_hf(), dtype=torch.bfloat16)
    commit = target.commit
    monkeypatch.setattr(target, "commit", lambda cache, path, row=0: commit(cache, torch.arange(len(path)), row))
    tree = TreeConfig(nodes=12, depth=3, top_k=4)
    # long answers: one mistake may look like a tie, depending on how this processor rounds bfloat16; many do not
    report = bench(target, repeats=1, tree=tree, draft=NgramDraft(max_ngram=1), max_tokens=100)
    assert not report.lossless.ok


def test_bfloat16_ties_are_shown_with_their_evidence(
    bench: Any, make_hf: Any, make_target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random bfloat16 weights with logits on a coarse grid: several near-ties flip, none may count as a mismatch.

    Some processors round several rows as they round one, and nothing would flip: rounding is added to trees.
    """
    hf = make_hf(seed=1)
    hf.lm_head.weight.data.mul_(0.2)
    target = make_target(hf, dtype=torch.bfloat16)
    verify = target.verify

    def rounding(tokens: torch.Tensor, *args: Any, **options: Any) -> Forward:
        found = verify(tokens, *args, **options)
        step = 0.004 * torch.arange(found.logits.shape[-1]).sin() * (len(tokens) > 1)
        return Forward(found.logits + step, found.features)

    monkeypatch.setattr(target, "verify", rounding)
    report = bench(target, repeats=1, max_tokens=100)
    assert report.lossless.ok
    assert report.lossless.num_ties > 0
    for entry in report.lossless.differences:
        seen = entry.difference
        assert 0.0 <= seen.gap <= seen.noise
        assert seen.shift <= 2 * seen.noise
        assert seen.plain != seen.speculative


def test_an_answer_that_ends_early_is_found(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    generate_ids = bench_repeats.generate_ids

    def cut_short(target: Any, drafter: Any, *args: Any, **options: Any) -> Any:
        found = generate_ids(target, drafter, *args, **options)
        return replace(found, ids=found.ids[:-3]) if drafter else found

    monkeypatch.setattr(bench_repeats, "generate_ids", cut_short)
    report = bench(repeats=1)
    assert {d.difference.why for d in report.lossless.differences} == {"speculative decoding did not repeat itself"}
    assert not report.lossless.ok


def test_plain_and_speculative_alternate(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    generate_ids, order = bench_repeats.generate_ids, []

    def spy(target: Any, drafter: Any, *args: Any, **options: Any) -> Any:
        order.append("s" if drafter else "p")
        return generate_ids(target, drafter, *args, **options)

    monkeypatch.setattr(bench_repeats, "generate_ids", spy)
    bench(repeats=2)
    assert "".join(order) == "ps" + "ps" * 3 + "sp" * 3  # warm-up, then two repeats


def test_plain_mode_without_a_drafter(bench: Any) -> None:
    report = bench(draft=NoDraft())
    assert report.mode == "plain"
    assert report.lossless is None
    assert report.ratio == Spread.of([1.0])
    assert report.accept_len == 1.0
    assert report.tree_why == "plain decoding: draft.kind is none"


def test_auto_may_choose_plain_decoding(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = SimpleNamespace(why="tree: auto: decoding plainly")
    monkeypatch.setattr(bench_module, "settle_tree", lambda *_: (None, TreeConfig(), choice))
    report = bench(tree="auto")
    assert (report.mode, report.tree, report.tree_why) == ("plain", "", "tree: auto: decoding plainly")


def test_later_turns_follow_the_plain_answers(bench: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "two.jsonl"
    path.write_text('{"turns": ["abcabc", "and again"]}\n')
    asked = []
    generate_ids = bench_repeats.generate_ids

    def spy(target: Any, drafter: Any, ids: Any, **options: Any) -> Any:
        asked.append(target.tokenizer.decode(ids))
        return generate_ids(target, drafter, ids, **options)

    monkeypatch.setattr(bench_repeats, "generate_ids", spy)
    report = bench(prompts=str(path), max_turns=2, max_tokens=8, repeats=1)
    assert report.num_answers == 2
    second = asked[-1]
    assert second.startswith("u:abcabc\na:")
    assert second.endswith("\nu:and again\na:")


def test_acceptance_by_task(bench: Any, tmp_path: Any) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(
        '{"prompt": "abcabcabcabc", "category": "repeat"}\n{"prompt": "qwzx"}\n'
        '{"prompt": "1 2 3 1 2 3 1 2 3", "category": "repeat"}\n'
    )
    report = bench(prompts=str(path))
    assert [(entry.task, entry.num_answers) for entry in report.tasks] == [("repeat", 2), ("other", 1)]
    alone = [bench(prompts=str(only(path, lines))) for lines in ((0, 2), (1,))]
    assert [entry.accept_len for entry in report.tasks] == [found.accept_len for found in alone]
    assert all(found.tasks == () for found in alone)  # one task: the whole report is about it
    assert min(entry.ratio for entry in report.tasks) > 0
    assert bench(prompts=str(path), draft=NoDraft()).tasks == ()


def only(path: Any, lines: tuple[int, ...]) -> Any:
    """A file with some lines of another."""
    part = path.with_name(f"only-{lines[0]}.jsonl")
    part.write_text("".join(f"{path.read_text().splitlines()[at]}\n" for at in lines))
    return part


def test_prompt_that_does_not_fit_names_its_line(bench: Any, tmp_path: Any) -> None:
    path = tmp_path / "long.txt"
    path.write_text("short\n" + "x" * 300 + "\n")
    with pytest.raises(UsageError) as caught:
        bench(prompts=str(path))
    assert caught.value.message == ("long.txt:2: the prompt has 305 tokens and the context holds 160, answer included")


def test_peers_are_greedy() -> None:
    with pytest.raises(UsageError) as caught:
        plan_bench(BenchConfig(peers=True, sampling=SamplingConfig(temperature=1.0)))
    assert caught.value.message == "peers are compared greedily, but sampling.temperature is above 0"


def test_plan_counts_what_would_be_decoded() -> None:
    plan = plan_bench(BenchConfig(max_prompts=5, repeats=3, max_tokens=10, peers=True))
    assert (plan.num_prompts, plan.num_turns, plan.num_decoders, plan.max_tokens) == (5, 5, 4, 5 * 4 * 3 * 10)
