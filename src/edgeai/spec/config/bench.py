"""Configuration of `edgeai spec bench`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from edgeai.core.config import Config
from edgeai.spec.config.draft import Draft, Eagle3Draft, TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.target import TargetConfig

PeerName = Literal["transformers", "llamacpp"]
Ngram = Literal["ngram-simple", "ngram-map-k", "ngram-map-k4v", "ngram-mod", "ngram-cache"]


def _peer_names(value: Any) -> Any:
    """Return the names in a text such as "transformers,llamacpp"; true stands for transformers, false for none."""
    if isinstance(value, bool):
        return ("transformers",) if value else ()
    return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value


class LlamaCppConfig(Config):
    """llama.cpp as a peer of `spec bench`. It runs the GGUF file of `target.model` with as many threads as edgeai."""

    servers: tuple[str, ...] = Field(default=("wheel",), min_length=1)
    """Builds to measure: "wheel" for the package xllamacpp, or paths of llama-server binaries. A binary compiled for
    this machine is the fair baseline."""
    ngram: tuple[Ngram, ...] = ("ngram-simple",)
    """Kinds of llama.cpp's n-gram speculation that are measured beside its plain decoding."""
    eagle3_head: str = ""
    """GGUF file of a draft head that llama.cpp can run with EAGLE-3; empty leaves this mode out."""
    flash_attention: Literal["auto", "on", "off"] = "auto"
    """Flash attention of llama.cpp; auto measures both on the first prompt and takes the faster one."""


class BenchConfig(Config):
    """`edgeai spec bench`: compare plain and speculative decoding: same engine, dtype and prompts, interleaved runs."""

    verb: Literal["spec bench"] = "spec bench"
    target: TargetConfig = TargetConfig()
    draft: Draft = Eagle3Draft()
    """Drafter that is compared with plain decoding."""
    tree: TreeConfig | Literal["auto"] = "auto"
    """Tree shape; auto selects the tree with the highest predicted speed, from timings of this machine and the head's
    acceptance."""
    sampling: SamplingConfig = SamplingConfig()
    prompts: str = ""
    """Prompt file in the format of MT-Bench, GSM8K, ShareGPT, OpenAI, HumanEval, Alpaca or Dolly (.jsonl, .json,
    .parquet), or text lines; empty selects the built-in prompts."""
    max_prompts: int = Field(default=16, ge=1)
    """Number of prompts used, evenly spaced over the file."""
    max_turns: int = Field(default=1, ge=1)
    """Maximum number of user turns answered per conversation."""
    max_tokens: int = Field(default=128, ge=1)
    """Maximum number of tokens per answer."""
    context: int = Field(default=2048, ge=8)
    """Maximum length of prompt plus answer, in tokens; capped at the model's own limit."""
    repeats: int = Field(default=3, ge=1)
    """Interleaved plain and speculative repetitions of the whole prompt set."""
    peers: Annotated[tuple[PeerName, ...], BeforeValidator(_peer_names)] = ()
    """Other implementations to run on the same prompts, greedy only: transformers (generate and prompt lookup) and
    llamacpp."""
    peers_assistant: str = ""
    """With transformers: a smaller model with the same tokenizer for its assisted generation; empty skips it."""
    llamacpp: LlamaCppConfig = LlamaCppConfig()
