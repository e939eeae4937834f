"""Construction of the peers that a bench config names."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch

from edgeai.core.errors import UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.bench import BenchConfig
from edgeai.spec.evaluation.peers.llama_builds import Options
from edgeai.spec.evaluation.peers.llamacpp_peers import find_builds, gguf_path, llamacpp_peers
from edgeai.spec.evaluation.peers.peer import Peer, Peers
from edgeai.spec.evaluation.peers.transformers_peers import transformers_peers
from edgeai.spec.target.protocol import Target


def num_peers(cfg: BenchConfig) -> int:
    """Return the number of peers that a config names."""
    modes = 1 + len(cfg.llamacpp.ngram) + bool(cfg.llamacpp.eagle3_head)
    count = {"transformers": 2 + bool(cfg.peers_assistant), "llamacpp": len(cfg.llamacpp.servers) * modes}
    return sum(count[name] for name in cfg.peers)


def check_peers(cfg: BenchConfig, *, device: str, metrics: Metrics) -> None:
    """Find packages, programs and models of the peers before the target is loaded.

    Args:
        cfg: Peers, their options and the target.
        device: Torch device of the target.
        metrics: Receives progress of a download.

    Raises:
        UsageError: Something is missing or of the wrong kind.
    """
    if "llamacpp" not in cfg.peers:
        return
    if device != "cpu":
        raise UsageError(f"llama.cpp is compared on the CPU, not on {device}", hint="add --device cpu")
    gguf_path(cfg.target.model, metrics)
    find_builds(cfg.llamacpp)


def build_peers(cfg: BenchConfig, target: Target, prompt_ids: Sequence[int], metrics: Metrics) -> Peers:
    """Load and start the peers.

    Args:
        cfg: Peers and their options.
        target: The loaded target.
        prompt_ids: Prompt on which options of peers are chosen.
        metrics: Receives progress and notes.

    Raises:
        EdgeAIError: A peer cannot be loaded or started.
    """
    peers: list[Peer] = []
    with ExitStack() as started:
        for name in cfg.peers:
            if name == "transformers":
                peers += transformers_peers(
                    cfg.target.model, target, max_tokens=cfg.max_tokens, assistant=cfg.peers_assistant, metrics=metrics
                )
                continue
            base = Options(
                model=gguf_path(cfg.target.model, metrics),
                threads=torch.get_num_threads(),
                context=min(cfg.context, target.shape.max_positions),
                flash_attention=False,
            )
            llama = llamacpp_peers(
                cfg.llamacpp,
                find_builds(cfg.llamacpp),
                base,
                max_tokens=cfg.max_tokens,
                prompt_ids=prompt_ids,
                metrics=metrics,
            )
            for peer in llama:
                started.callback(peer.close)
            peers += llama
        started.pop_all()  # from here on the group owns them
    return Peers(peers)
