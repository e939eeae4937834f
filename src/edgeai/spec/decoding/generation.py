"""Results of decoding: one answer, the choice of a draft tree, and the plan and report of `edgeai spec generate`.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, ClassVar, Literal

from edgeai.core.report.fields import About, about
from edgeai.spec.config.draft import TreeConfig


def accept_len(counts: Iterable[int]) -> float:
    """Return the mean number of tokens emitted per verify cycle, bonus token included; 1 without any cycle.

    Args:
        counts: Tokens emitted by each cycle.
    """
    cycles = list(counts)
    return sum(cycles) / len(cycles) if cycles else 1.0


@dataclass(frozen=True)
class Generation:
    """One answer with its acceptance and timings."""

    COMPUTED: ClassVar = {
        "num_tokens": About("tokens", "", "generated, an end-of-text token included"),
        "num_cycles": About("cycles", "", "passes of the target after the prefill"),
        "accept_len": About("accept_len", "1", "tokens per cycle, bonus token included", "max"),
        "tokens_per_s": About("tokens/s", "", "tokens emitted by cycles / time after the prefill", "max"),
        "finish_reason": About("finish reason"),
        "num_prompt_tokens": About("prompt tokens"),
        "prefill_s": About("prefill"),
    }

    ids: tuple[int, ...]
    """Generated tokens, including an end-of-text token."""
    text: str
    """Generated text, without special tokens."""
    finish_reason: Literal["stop", "length"]
    """Why the answer ended: "stop" for an end-of-text token, "length" for the limit of tokens."""
    num_prompt_tokens: int
    """Tokens of the prompt, chat template included."""
    accept_counts: tuple[int, ...]
    """Tokens emitted by each verify cycle, bonus token included."""
    accepted_at: tuple[int, ...]
    """Cycles in which a draft token of depth 1, 2, ... was accepted."""
    accepted_ranks: tuple[int, ...]
    """Cycles in which the most confident, second most confident, ... draft node was accepted: 1 plus the sum of the
    first n entries over the cycles is the accept_len of trees limited to n nodes."""
    num_draft_nodes: int
    """Verified draft nodes of all cycles."""
    prefill_s: float
    """Time of the pass over the prompt."""
    draft_s: float
    """Time of drafting, all cycles together."""
    verify_s: float
    """Time of the verify passes of the target, all cycles together."""
    commit_s: float
    """Acceptance and KV-cache compaction."""

    @property
    def num_cycles(self) -> int:
        """Target passes after the prefill."""
        return len(self.accept_counts)

    @property
    def accept_len(self) -> float:
        """Mean number of tokens per cycle, bonus token included."""
        return accept_len(self.accept_counts)

    @property
    def decode_s(self) -> float:
        """Decoding time, without the prefill."""
        return self.draft_s + self.verify_s + self.commit_s

    @property
    def tokens_per_s(self) -> float:
        """Tokens emitted by cycles per second of decoding."""
        return sum(self.accept_counts) / self.decode_s if self.decode_s else 0.0


@dataclass(frozen=True)
class TreeChoice:
    """Tree chosen by `tree: auto`, with the predictions behind the choice."""

    tree: TreeConfig | None
    """Chosen tree; None for plain decoding."""
    accept_len: float
    """Predicted accept_len of the best tree, bonus token included."""
    speedup: float
    """Predicted speed of the best tree relative to plain decoding."""
    plain_s: float
    """Time per token of plain decoding."""
    cycle_s: float
    """Time per cycle with the best tree."""
    best: TreeConfig
    """Best tree, used or not."""

    @property
    def why(self) -> str:
        """One-line explanation of the choice."""
        shape = f"nodes {self.best.nodes}, depth {self.best.depth}, top-k {self.best.top_k}"
        facts = (
            f"{self.accept_len:.2f} tokens per {self.cycle_s * 1e3:.1f} ms cycle against one per "
            f"{self.plain_s * 1e3:.1f} ms, predicted ratio {self.speedup:.2f}"
        )
        if self.tree is None:
            return f"tree: auto: decoding plainly; the best tree ({shape}) is not worth it: {facts}"
        return f"tree: auto: {shape}; {facts}"


@dataclass(frozen=True)
class GeneratePlan:
    """Amount of work of a run."""

    num_prompts: int = field(metadata=about("prompts"))
    max_tokens: int = field(metadata=about("tokens, at most", meaning="decoded in all"))

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class GenerateReport:
    """Answers to prompts, in the order of the prompts."""

    COMPUTED: ClassVar = {
        "tree_why": About("choice of the tree"),
        "num_tokens": About("tokens", "", "generated in all"),
        "accept_len": About("accept_len", "1", "tokens per verify cycle over all answers, bonus token included", "max"),
        "tokens_per_s": About("tokens/s", "", "over all answers, prefill left out", "max"),
    }

    prompts: tuple[str, ...]
    """Prompts as given."""
    answers: tuple[Generation, ...]
    """One answer per prompt."""
    runtime: str
    """Code that computed the target: torch or native."""
    drafter: str
    """Name of the drafter; "none" for plain decoding."""
    tree: TreeConfig | None
    """Draft tree in use; None for plain decoding."""
    choice: TreeChoice | None
    """Outcome of `tree: auto`; None if the tree was given."""

    @property
    def num_tokens(self) -> int:
        """Generated tokens of all answers."""
        return sum(len(answer.ids) for answer in self.answers)

    @property
    def accept_len(self) -> float:
        """Tokens per verify cycle over all answers, bonus token included."""
        return accept_len(chain.from_iterable(answer.accept_counts for answer in self.answers))

    @property
    def tokens_per_s(self) -> float:
        """Decoding speed over all answers, without the prefill."""
        decode_s = sum(answer.decode_s for answer in self.answers)
        return sum(sum(answer.accept_counts) for answer in self.answers) / decode_s if decode_s else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return plain data for report.json and `--json`."""
        return {
            "answers": [
                {
                    "prompt": prompt,
                    "text": answer.text,
                    "ids": list(answer.ids),
                    "finish_reason": answer.finish_reason,
                    "num_prompt_tokens": answer.num_prompt_tokens,
                    "num_tokens": len(answer.ids),
                    "num_cycles": answer.num_cycles,
                    "accept_len": answer.accept_len,
                    "tokens_per_s": answer.tokens_per_s,
                    "prefill_s": answer.prefill_s,
                }
                for prompt, answer in zip(self.prompts, self.answers, strict=True)
            ],
            "runtime": self.runtime,
            "drafter": self.drafter,
            "tree": self.tree.model_dump() if self.tree else None,
            "tree_why": self.choice.why if self.choice else None,
            "num_tokens": self.num_tokens,
            "accept_len": self.accept_len,
            "tokens_per_s": self.tokens_per_s,
        }
