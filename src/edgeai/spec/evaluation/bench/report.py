"""Records of `edgeai spec bench`. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from edgeai.core.report.fields import about, meaning_of
from edgeai.core.stats import Spread, plain
from edgeai.spec.decoding.difference import Difference


@dataclass(frozen=True)
class BenchPlan:
    """Amount of work of a benchmark."""

    num_prompts: int = field(metadata=about("prompts"))
    num_turns: int = field(metadata=about("user turns", meaning="answered per repeat and decoder"))
    num_decoders: int = field(metadata=about("decoders", meaning="plain, speculative, and peers"))
    max_tokens: int = field(metadata=about("tokens, at most", meaning="decoded in all"))

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class CycleTimes:
    """Mean times of a cycle of speculative decoding."""

    draft_s: float = field(metadata=about("draft"))
    verify_s: float = field(metadata=about("verify"))
    commit_s: float = field(metadata=about("accept and commit", meaning="includes the KV-cache compaction"))
    rest_s: float = field(
        metadata=about("outside of cycles", meaning="cache reservation, detokenization; not part of tokens/s")
    )


@dataclass(frozen=True)
class Cost:
    """One point of the cost curve T(n)."""

    num_tokens: int = field(metadata=about("n", meaning="tokens verified in one pass of the target"))
    verify_s: float = field(metadata=about("T(n)"))


@dataclass(frozen=True)
class AnswerDifference:
    """Difference between plain and speculative decoding, and the answer that contains it."""

    prompt: str = field(metadata=about("prompt"))
    turn: int = field(metadata=about("turn"))
    """Counted from 0."""
    difference: Difference = field(metadata=about(""))


@dataclass(frozen=True)
class Lossless:
    """Comparison of the speculative answers of all repeats with the plain ones; see `decoding/lossless.py`."""

    ok: bool = field(
        metadata=about(
            "lossless", meaning="no difference; in bfloat16 and float16 on torch none but ties within rounding noise"
        )
    )
    """The native runtime and float32 allow no difference at all."""
    num_answers: int = field(metadata=about("answers compared"))
    num_equal: int = field(metadata=about("equal answers", meaning="token for token"))
    num_ties: int = field(
        metadata=about("near-ties", meaning="positions where a tie within rounding noise was resolved differently")
    )
    num_mismatches: int = field(
        metadata=about("mismatches", meaning="positions that rounding does not explain; report them as a bug")
    )
    noise: float = field(metadata=about("rounding noise", meaning="largest measured, in logits; 0 if all are equal"))
    differences: tuple[AnswerDifference, ...] = field(metadata=about("differences"))


@dataclass(frozen=True)
class PeerResult:
    """Another implementation on the same prompts and threads, interleaved with edgeai."""

    name: str = field(metadata=about("decoder"))
    settings: str = field(metadata=about("settings"))
    """Version and options."""
    num_repeats: int = field(metadata=about("repeats", meaning="complete ones; a peer that fails is left out"))
    tokens_per_s: Spread = field(metadata=about("tokens/s", best="max"))
    """New tokens after the first delivery / time since it, which excludes the prefill as for edgeai."""
    plain_ratio: Spread | None = field(metadata=about("plain", unit="1"))
    """Tokens/s of edgeai's plain decoding / those of the peer in the same repeat."""
    speculative_ratio: Spread | None = field(metadata=about("speculative", unit="1"))
    """Tokens/s of edgeai's speculative decoding / those of the peer in the same repeat; None in plain mode."""
    prompt_tokens_per_s: Spread = field(metadata=about("prompt tokens/s", best="max"))
    """Prompt tokens / time to the first token."""
    prompt_ratio: Spread = field(metadata=about("prompts", unit="1"))
    """Prompt tokens/s of edgeai's plain decoding / those of the peer in the same repeat."""
    num_equal: int = field(metadata=about("equal answers"))
    """Answers equal to edgeai's plain decoding token for token."""
    num_answers: int = field(metadata=about("answers"))
    equal_frac: float = field(metadata=about("tokens before the first difference"))
    """Tokens of edgeai's plain answers before the first one that the peer chose differently / all their tokens."""
    num_unexplained: int = field(
        default=0,
        metadata=about("unexplained answers", meaning="differ by more than rounding; report them as a bug"),
    )
    """Answers of transformers in float32 that part from edgeai's where no two tokens nearly tie; 0 for other peers."""


@dataclass(frozen=True)
class TaskResult:
    """Speculative decoding on the prompts of one kind of task."""

    task: str = field(metadata=about("task"))
    """Category that the prompt file names."""
    num_answers: int = field(metadata=about("answers"))
    accept_len: float | None = field(metadata=about("accept_len", unit="1", best="max"))
    """Tokens emitted per verify cycle; None without a cycle."""
    ratio: float | None = field(metadata=about("ratio", unit="1", best="max", meaning="speculative / plain tokens/s"))
    """Speculative over plain speed, all repeats together; None without a cycle."""


@dataclass(frozen=True)
class PeerFailure:
    """A peer that failed while the bench ran."""

    name: str = field(metadata=about("decoder"))
    reason: str = field(metadata=about("failed"))


@dataclass(frozen=True)
class BenchReport:
    """Comparison of plain and speculative decoding."""

    target: str = field(metadata=about("target"))
    """Target model, as given."""
    draft: str = field(metadata=about("draft", meaning="kind of drafter, with the head's folder"))
    """Kind of drafter, with the head's folder."""
    dtype: str = field(metadata=about("number format"))
    """Number format of the target on torch, and of its features."""
    runtime: str = field(metadata=about("runtime", meaning="code that computed the target"))
    """Code that computed the target: torch or native."""
    device: str = field(metadata=about("device", hidden=True))
    """Torch device."""
    hardware: str = field(metadata=about("machine", meaning="processor or GPU, threads, torch version"))
    """Processor or GPU, number of threads and torch version."""
    prompts: str = field(metadata=about("prompt set"))
    """Prompt file, or "built-in"."""
    num_prompts: int = field(metadata=about("prompts"))
    """Number of conversations."""
    num_answers: int = field(metadata=about("answers", meaning="prompts times turns answered"))
    """Number of answers per repeat: conversations times turns answered."""
    max_tokens: int = field(metadata=about("tokens per answer, at most"))
    """Maximum number of tokens per answer."""
    temperature: float = field(metadata=about("temperature"))
    """Sampling temperature; 0 is greedy."""
    repeats: int = field(metadata=about("repeats"))
    """Number of interleaved plain and speculative repeats."""

    mode: Literal["speculative", "plain"] = field(metadata=about("mode"))
    """plain: speculation would not pay here, or was not requested; nothing is compared then."""
    tree: str = field(metadata=about("draft tree"))
    """Empty for plain decoding."""
    tree_why: str = field(metadata=about("choice of the tree"))
    """How the tree, or plain decoding, was chosen."""

    plain_tokens_per_s: Spread = field(
        metadata=about(
            "plain tokens/s",
            best="max",
            hidden=True,
            meaning=(
                "tokens emitted by cycles / time of the cycles, all answers of a repeat together; without the prefill "
                "and its token"
            ),
        )
    )
    """Speed of plain decoding over the repeats, without the prefill."""
    speculative_tokens_per_s: Spread = field(metadata=about("speculative tokens/s", best="max", hidden=True))
    """Equal to `plain_tokens_per_s` in plain mode."""
    ratio: Spread = field(
        metadata=about(
            "ratio", unit="1", best="max", hidden=True, meaning="speculative / plain tokens per second of each repeat"
        )
    )
    """Speculative over plain speed of the same repeat, over the repeats."""
    prompt_tokens_per_s: Spread = field(
        metadata=about(
            "prompt tokens/s",
            best="max",
            hidden=True,
            meaning="prompt tokens / time to the first token, plain decoding",
        )
    )
    """Speed of the prefill over the repeats."""
    num_tokens: int = field(
        metadata=about("tokens", hidden=True, meaning="emitted by speculative cycles in one repeat")
    )
    """Tokens emitted by speculative cycles in one repeat."""
    num_cycles: int = field(metadata=about("cycles", hidden=True, meaning="verify cycles in one repeat"))
    """Verify cycles in one repeat."""
    accept_len: float = field(
        metadata=about(
            "accept_len",
            unit="1",
            best="max",
            hidden=True,
            meaning=(
                "tokens emitted by verify cycles / verify cycles, the bonus token counted, so that plain decoding has "
                "1.0"
            ),
        )
    )
    """Tokens emitted per verify cycle, bonus token included; plain decoding has 1."""
    acceptance: tuple[float, ...] = field(
        metadata=about(
            "accepted",
            unit="%",
            best="max",
            hidden=True,
            meaning="verify cycles in which the draft token at this depth was accepted / all verify cycles",
        )
    )
    """By depth in the tree, the first draft token first."""
    tasks: tuple[TaskResult, ...] = field(metadata=about("tasks", hidden=True), kw_only=True, default=())
    """By kind of task, if the prompt file names more than one; empty in plain mode."""
    draft_nodes: float = field(metadata=about("draft nodes", hidden=True, meaning="verified per cycle, mean"))
    """Mean number of draft nodes verified per cycle."""
    coverage_frac: float | None = field(
        metadata=about("draft vocabulary coverage", meaning="share of plain decoding's tokens in the draft vocabulary")
    )
    """None if the vocabulary holds all tokens."""
    cycle: CycleTimes = field(metadata=about("mean cycle", hidden=True))
    """Mean time of a cycle by part."""
    cost_curve: tuple[Cost, ...] = field(metadata=about("cost of verification"))
    """Time of a target pass by number of tokens verified in it."""
    peak_memory_bytes: int = field(
        metadata=about("peak memory", best="min", meaning="of this process, with transformers; on a GPU of torch there")
    )
    """Peak memory of the process; on a GPU, torch's peak there."""
    lossless: Lossless | None = field(metadata=about("", hidden=True))
    """None in plain mode, where nothing is compared."""
    peers: tuple[PeerResult, ...] = field(metadata=about("peers"))
    """Results of other decoders; empty unless `peers` is set."""
    failed_peers: tuple[PeerFailure, ...] = field(metadata=about("failed peers"))
    """Peers that failed while the bench ran."""

    @property
    def is_ok(self) -> bool:
        """True if all texts that have to be equal are, and no peer failed."""
        is_lossless = self.lossless is None or self.lossless.ok
        return is_lossless and not self.failed_peers and not any(peer.num_unexplained for peer in self.peers)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON, with the definition of each measure next to it."""
        spread_keys = {"minimum": "minimum", "median": "median", "maximum": "maximum"}
        document: dict[str, Any] = {}
        for name, value in plain(self, spread_keys).items():
            document[name] = value
            if name in _DEFINED:
                document[f"{_DEFINED[name][0]}_definition"] = meaning_of(BenchReport, _DEFINED[name][1])
        return document


_DEFINED = {
    "speculative_tokens_per_s": ("tokens_per_s", "plain_tokens_per_s"),
    "accept_len": ("accept_len", "accept_len"),
    "acceptance": ("acceptance", "acceptance"),
}
"""Fields after which the document holds a definition: its name, and the field whose meaning it is."""
