"""llama.cpp as a peer: each build plain, with its n-gram speculation, and with EAGLE-3 if a head for it is given.

All settings are chosen in llama.cpp's favor. Flash attention is on or off, whichever answers the first prompt faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeai.core import assets
from edgeai.core.errors import UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.bench import LlamaCppConfig
from edgeai.spec.evaluation.peers.llama_builds import WHEEL, BinaryBuild, Build, Options, WheelBuild
from edgeai.spec.evaluation.peers.llama_server import LlamaServer
from edgeai.spec.evaluation.peers.peer import PeerAnswer

NGRAM_OPTIONS: Mapping[str, Mapping[str, Any]] = {"ngram_simple": {"size_n": 2, "size_m": 1}}
"""Options by kind of n-gram speculation that replace llama.cpp's defaults, which find no match in most short answers.

Replayed on answers of SmolLM2-135M-Instruct of up to 128 tokens, this draft gains most if a pass over two tokens costs
1.15 to 1.3 times one over one token; llama.cpp's default (12 and 48) gains 1 %.
"""
_EAGLE3: Mapping[str, Any] = {"n_max": 3, "p_min": 0.0}
_CHOICE_ROUNDS = 3
_CHOICE_TOKENS = 48


@dataclass(frozen=True)
class LlamaPeer:
    """One llama.cpp server with fixed options."""

    name: str
    settings: str
    server: LlamaServer
    max_tokens: int
    context: int

    def answer(self, prompt_ids: Sequence[int]) -> PeerAnswer:
        """Answer a prompt greedily."""
        return self.server.answer(prompt_ids, min(self.max_tokens, self.context - len(prompt_ids)))

    def close(self) -> None:
        """End the server."""
        self.server.close()


def gguf_path(model: str, metrics: Metrics) -> Path:
    """Return the GGUF file of `target.model`.

    Args:
        model: Model as in `target.model`.
        metrics: Receives progress of a download.

    Raises:
        UsageError: The model is not a GGUF file.
    """
    path = assets.fetch(model, metrics) if model in assets.ASSETS else Path(model)
    if path.is_file():
        with path.open("rb") as file:
            if file.read(4) == b"GGUF":
                return path.resolve()
    raise UsageError(
        f"llama.cpp runs GGUF files; {model} is not one", hint="set target.model to a .gguf file, or leave out llamacpp"
    )


def find_builds(cfg: LlamaCppConfig) -> list[Build]:
    """Return the builds of llama.cpp that a config names.

    Raises:
        UsageError: A build is missing or is not llama.cpp.
    """
    if cfg.eagle3_head and not Path(cfg.eagle3_head).is_file():
        raise UsageError(f"llamacpp.eagle3_head: {cfg.eagle3_head} does not exist", hint="give a GGUF file")
    binaries = [server for server in cfg.servers if server != WHEEL]
    numbered = len(binaries) > 1
    return [
        WheelBuild() if server == WHEEL else BinaryBuild(server, binaries.index(server) + 1 if numbered else 0)
        for server in cfg.servers
    ]


def llamacpp_peers(
    cfg: LlamaCppConfig,
    builds: Sequence[Build],
    base: Options,
    *,
    max_tokens: int,
    prompt_ids: Sequence[int],
    metrics: Metrics,
) -> list[LlamaPeer]:
    """Start one server per build and mode.

    Args:
        cfg: Modes of llama.cpp.
        builds: Builds of llama.cpp.
        base: Model, threads and context of all servers.
        max_tokens: Most tokens per answer.
        prompt_ids: Prompt on which flash attention is measured.
        metrics: Receives a note per server.

    Raises:
        EdgeAIError: A server ended or does not become ready.
    """
    with ExitStack() as started:
        peers: list[LlamaPeer] = []

        def add(name: str, settings: str, server: LlamaServer) -> None:
            peers.append(LlamaPeer(name, settings, server, max_tokens, base.context))

        for build in builds:
            plain, options, choice = _plain_server(cfg, build, base, prompt_ids, started)
            common = (
                f"{build.version}; {build.cpu_features()}; {base.threads} threads for decoding and prompts; {choice}"
            )
            add(build.name, common, plain)
            for kind, speculative in _speculative_options(cfg, options):
                name = f"{build.name}, {kind}"
                server = build.start(name, speculative)
                started.callback(server.close)
                add(name, f"as {build.name}; {_described(speculative)}", server)
            metrics.note(f"{build.name}: {common}")
        started.pop_all()  # from here on the peers own their servers
        return peers


def _plain_server(
    cfg: LlamaCppConfig, build: Build, base: Options, prompt_ids: Sequence[int], started: ExitStack
) -> tuple[LlamaServer, Options, str]:
    """Return a server for plain decoding, its options, and how flash attention was chosen."""

    def start(flash_attention: bool) -> tuple[LlamaServer, Options]:
        options = replace(base, flash_attention=flash_attention)
        server = build.start(build.name, options)
        started.callback(server.close)
        return server, options

    if cfg.flash_attention != "auto":
        return *start(cfg.flash_attention == "on"), f"flash attention {cfg.flash_attention}"
    candidates = {"on": start(True), "off": start(False)}
    times: dict[str, list[float]] = {"on": [], "off": []}
    for _ in range(_CHOICE_ROUNDS):
        for name, (server, _) in candidates.items():
            times[name].append(_answer_s(server, prompt_ids))
    best = min(times, key=lambda name: min(times[name]))
    worse = "off" if best == "on" else "on"
    candidates[worse][0].close()
    ratio = min(times[worse]) / min(times[best])
    return *candidates[best], f"flash attention {best} ({worse} takes {ratio:.2f} times as long)"


def _answer_s(server: LlamaServer, prompt_ids: Sequence[int]) -> float:
    answer = server.answer(prompt_ids, _CHOICE_TOKENS)
    return answer.prefill_s + answer.decode_s


def _speculative_options(cfg: LlamaCppConfig, plain: Options) -> list[tuple[str, Options]]:
    """Return the speculative modes: kind and options."""
    modes: list[tuple[str, Options]] = []
    for kind in cfg.ngram:
        group = kind.replace("-", "_")
        changes = {group: NGRAM_OPTIONS[group]} if group in NGRAM_OPTIONS else {}
        modes.append((kind, replace(plain, speculation=kind, speculation_options=changes)))
    if cfg.eagle3_head:
        head = str(Path(cfg.eagle3_head).resolve())
        eagle3 = replace(plain, speculation="draft-eagle3", speculation_options={"draft": _EAGLE3}, head=head)
        modes.append(("eagle3", eagle3))
    return modes


def _described(options: Options) -> str:
    values = [f"{key} {value}" for group in options.speculation_options.values() for key, value in group.items()]
    head = [f"head {Path(options.head).name}"] if options.head else []
    return ", ".join([options.speculation, *head, *values])
