"""llama.cpp in `spec bench`: interleaved with our decoders, compared by ratio and text, and left out if it fails."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeai.commands.render.spec import bench_verdict
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.bench import BenchConfig, LlamaCppConfig
from edgeai.spec.config.draft import NgramDraft, NoDraft, TreeConfig
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.evaluation.bench import bench as bench_module
from edgeai.spec.evaluation.bench import repeats as repeats_module
from edgeai.spec.evaluation.bench.bench import plan_bench, run_bench
from edgeai.spec.evaluation.bench.report import BenchReport
from edgeai.spec.reports.bench_page import bench_summary
from edgeai.spec.target.torch_runtime import DecoderTarget

PROMPTS = ("abcabcabcabc", "to be or not to be, to be or not")
TOKENS = 12


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: DecoderTarget, fake: Any) -> Any:
    """bench(**options): report with the fake llama-server on two prompts; its log also lists edgeai's own answers."""
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(PROMPTS))

    def generate(target: Any, drafter: Any, *rest: Any, **options: Any) -> Any:
        fake.note("own-speculative" if drafter else "own-plain")
        return generate_ids(target, drafter, *rest, **options)

    def run(**options: Any) -> BenchReport:
        monkeypatch.setattr(bench_module, "build_target", lambda *_, **__: target)
        monkeypatch.setattr(bench_module, "measure_verify", lambda *_, **__: {1: 1e-3})
        monkeypatch.setattr(repeats_module, "generate_ids", generate)
        defaults: dict[str, Any] = {
            "target": TargetConfig(model=str(fake.model)),
            "draft": NgramDraft(),
            "tree": TreeConfig(nodes=5, depth=4, top_k=2),
            "prompts": str(path),
            "max_tokens": TOKENS,
            "repeats": 2,
            "peers": "llamacpp",
            "llamacpp": LlamaCppConfig(servers=(str(fake.program),), flash_attention="on"),
        }
        cfg = BenchConfig(**{**defaults, **options})
        return run_bench(cfg, SimpleNamespace(metrics=Metrics(None), device="cpu", info={"device": "cpu"}))

    return run


def own_answers(target: DecoderTarget) -> dict[str, list[int]]:
    """Plain answers by prompt, decoded without the bench."""
    found = {}
    for prompt in PROMPTS:
        ids = target.tokenizer.encode(target.tokenizer.render([{"role": "user", "content": prompt}], open_answer=True))
        generation = generate_ids(
            target, None, ids, tree=TreeConfig(), sampling=BenchConfig().sampling, max_tokens=TOKENS, context=2048
        )
        found[" ".join(map(str, ids))] = list(generation.ids)
    return found


def test_speeds_ratios_and_equal_texts(bench: Any, fake: Any, target: DecoderTarget) -> None:
    answers = own_answers(target)
    changed = list(answers)[1]
    answers[changed][3] += 1
    fake.order(answers=answers)
    report = bench()
    plain, ngram = report.peers
    assert (plain.name, ngram.name) == ("llama-server", "llama-server, ngram-simple")
    # the fake takes 5 ms per token after the first, and 2 ms per prompt token
    assert plain.tokens_per_s.minimum == pytest.approx(200) == plain.tokens_per_s.maximum
    assert plain.prompt_tokens_per_s.median == pytest.approx(500)
    for ours, ratio, theirs in (
        (report.plain_tokens_per_s, plain.plain_ratio, 200),
        (report.speculative_tokens_per_s, plain.speculative_ratio, 200),
        (report.prompt_tokens_per_s, plain.prompt_ratio, 500),
    ):
        assert ratio.minimum == pytest.approx(ours.minimum / theirs)
        assert ratio.maximum == pytest.approx(ours.maximum / theirs)
    assert (plain.num_equal, plain.num_answers, plain.num_repeats) == (1, 2, 2)
    lengths = [len(answer) for answer in answers.values()]
    assert plain.equal_frac == pytest.approx((lengths[0] + 3) / sum(lengths))
    assert "version 11434" in plain.settings
    assert "SSE3 AVX2" in plain.settings
    assert "flash attention on" in plain.settings
    assert report.failed_peers == ()
    assert bench_verdict(report).splitlines()[-2].startswith("llama-server: edgeai ")


def test_all_decoders_take_turns_and_the_order_is_reversed(bench: Any, fake: Any) -> None:
    bench()
    events = [event for event in fake.order_of_events() if event != "start"]
    warm_up, rest = events[:4], events[4:]
    assert warm_up == ["own-plain", "own-speculative", "plain", "ngram-simple"]
    assert rest[:4] == rest[4:8] == ["own-plain", "own-speculative", "plain", "ngram-simple"]
    assert rest[8:12] == rest[12:16] == ["ngram-simple", "plain", "own-speculative", "own-plain"]


def test_same_prompts_and_budget(bench: Any, fake: Any, target: DecoderTarget) -> None:
    bench(context=40)
    for request in fake.received("plain:"):
        assert " ".join(map(str, request["prompt"])) in own_answers(target)
        assert request["n_predict"] == min(TOKENS, 40 - len(request["prompt"]))


@pytest.mark.parametrize("slow", [True, False])
def test_faster_flash_attention_is_taken(bench: Any, fake: Any, slow: bool) -> None:
    fake.order(slow_flash_attention=slow)
    report = bench(llamacpp=LlamaCppConfig(servers=(str(fake.program),), ngram=()))
    assert [start["-fa"] for start in fake.received("start")] == ["on", "off"]
    if slow:
        assert "flash attention off (on takes" in report.peers[0].settings
    else:  # equally fast
        assert "flash attention on (off takes 1.00 times as long)" in report.peers[0].settings


def test_several_builds(bench: Any, fake: Any, fake_wheel: None) -> None:
    cfg = LlamaCppConfig(servers=("wheel", str(fake.program)), ngram=(), flash_attention="off")
    assert [peer.name for peer in bench(llamacpp=cfg).peers] == ["llama.cpp wheel", "llama-server"]


def test_eagle3_head(bench: Any, fake: Any, tmp_path: Path) -> None:
    head = tmp_path / "head.gguf"
    head.write_bytes(b"GGUF")
    cfg = LlamaCppConfig(servers=(str(fake.program),), ngram=(), flash_attention="on", eagle3_head=str(head))
    report = bench(llamacpp=cfg)
    assert [peer.name for peer in report.peers] == ["llama-server", "llama-server, eagle3"]
    start = fake.received("start")[1]
    assert (start["--spec-type"], start["-md"], start["--spec-draft-n-max"]) == ("draft-eagle3", str(head), "3")


def test_server_that_dies_keeps_what_was_measured(bench: Any, fake: Any) -> None:
    # one request of the warm-up and two prompts of the first repeat
    fake.order(dies_after={"ngram-simple": 3})
    report = bench(repeats=3)
    assert [(peer.name, peer.num_repeats) for peer in report.peers] == [
        ("llama-server", 3),
        ("llama-server, ngram-simple", 1),
    ]
    (failure,) = report.failed_peers
    assert failure.name == "llama-server, ngram-simple"
    assert failure.reason == "llama-server, ngram-simple ended with exit code 7: ggml: error: out of paper"
    assert report.lossless.num_equal == 2
    assert bench_verdict(report).splitlines()[-1] == f"{failure.name}: FAILED: {failure.reason}"


def test_server_that_dies_in_the_first_repeat_is_only_a_failure(bench: Any, fake: Any) -> None:
    fake.order(dies_after={"plain": 2})
    report = bench()
    assert [peer.name for peer in report.peers] == ["llama-server, ngram-simple"]
    assert [failure.name for failure in report.failed_peers] == ["llama-server"]


def test_server_that_fails_at_once_ends_the_bench_before_measuring(bench: Any, fake: Any) -> None:
    fake.order(fault="cannot load")
    with pytest.raises(EdgeAIError, match="unknown tensor type"):
        bench()
    assert "own-plain" not in fake.order_of_events()


def test_all_servers_end_with_the_bench(bench: Any, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeai.spec.evaluation.peers.llama_server import LlamaServer

    closed: list[LlamaServer] = []
    close = LlamaServer.close
    monkeypatch.setattr(LlamaServer, "close", lambda self: (close(self), closed.append(self)))
    bench()
    assert len({id(server) for server in closed}) == len(fake.received("start")) == 2
    assert all(server._process.returncode is not None for server in closed)


@pytest.mark.parametrize("name", ["model", "nowhere.gguf"])
def test_model_that_is_not_gguf(bench: Any, tmp_path: Path, name: str) -> None:
    if name == "model":
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(UsageError) as caught:
        bench(target=TargetConfig(model=str(tmp_path / name)))
    assert caught.value.message == f"llama.cpp runs GGUF files; {tmp_path / name} is not one"


def test_missing_head(bench: Any, fake: Any) -> None:
    with pytest.raises(UsageError) as caught:
        bench(llamacpp=LlamaCppConfig(servers=(str(fake.program),), eagle3_head="none.gguf"))
    assert caught.value.message == "llamacpp.eagle3_head: none.gguf does not exist"


def test_plan_counts_servers_and_modes() -> None:
    cfg = LlamaCppConfig(servers=("wheel", "a"), ngram=("ngram-simple", "ngram-mod"), eagle3_head="head.gguf")
    plan = plan_bench(BenchConfig(peers=("llamacpp",), llamacpp=cfg, max_prompts=1))
    assert plan.num_decoders == 2 + 2 * 4


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (True, ("transformers",)),
        (False, ()),
        ("llamacpp", ("llamacpp",)),
        ("transformers, llamacpp", ("transformers", "llamacpp")),
        ([], ()),
    ],
)
def test_names_of_peers(given: Any, names: tuple[str, ...]) -> None:
    assert BenchConfig(peers=given).peers == names


def test_tables_without_speculation_and_of_older_reports(bench: Any) -> None:
    document = bench(draft=NoDraft()).to_json()
    rows = {row[0]: row for table in bench_summary(document) if hasattr(table, "rows") for row in table.rows}
    assert rows["llama-server"]
    assert document["peers"][0]["speculative_ratio"] is None
    # a report of version 0.2 has neither prompt speeds nor ratios to peers
    del document["prompt_tokens_per_s"], document["failed_peers"]
    for peer in document["peers"]:
        for key in ("settings", "plain_ratio", "speculative_ratio", "prompt_ratio", "prompt_tokens_per_s"):
            del peer[key]
    assert bench_summary(document)
