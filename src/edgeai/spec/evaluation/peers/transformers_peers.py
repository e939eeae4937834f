"""transformers' own `generate` as a peer: plain, with prompt lookup, and with an assistant model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgeai.core.errors import EdgeAIError
from edgeai.core.metrics import Metrics
from edgeai.spec.evaluation.peers.peer import PeerAnswer
from edgeai.spec.target.loading import model_folder
from edgeai.spec.target.protocol import Target

# the length that transformers' documentation recommends for prompt lookup
LOOKUP_TOKENS = 10


def transformers_peers(
    model: str, target: Target, *, max_tokens: int, assistant: str, metrics: Metrics
) -> list[TransformersPeer]:
    """Return transformers with the target's weights, in each of its modes.

    Args:
        model: Model as in `target.model`.
        target: The loaded target, for number format, device and end-of-text tokens.
        max_tokens: Most tokens per answer.
        assistant: Model for assisted generation; empty leaves that out.
        metrics: Receives progress of a download.

    Raises:
        EdgeAIError: transformers cannot load a model.
    """
    loaded = _load(model, target, metrics)
    config = _greedy(target, max_tokens)
    lookup = _greedy(target, max_tokens, prompt_lookup_num_tokens=LOOKUP_TOKENS)
    peers = [
        TransformersPeer("transformers generate", loaded, {"generation_config": config}),
        TransformersPeer("transformers prompt lookup", loaded, {"generation_config": lookup}),
    ]
    if assistant:
        options = {"generation_config": config, "assistant_model": _load(assistant, target, metrics)}
        peers.append(TransformersPeer("transformers assisted", loaded, options))
    return peers


@dataclass(frozen=True)
class TransformersPeer:
    """transformers' `generate` with one set of options."""

    name: str
    model: Any
    options: dict[str, Any]

    @property
    def settings(self) -> str:
        """Version and number format."""
        import transformers

        threads = torch.get_num_threads()
        dtype = str(self.model.dtype).removeprefix("torch.")
        return f"transformers {transformers.__version__}, {dtype}, {self.model.device}, {threads} threads"

    @torch.inference_mode()
    def answer(self, prompt_ids: Sequence[int]) -> PeerAnswer:
        """Answer a prompt greedily."""
        device = self.model.device
        ids = torch.tensor([list(prompt_ids)], device=device)
        first = _FirstDelivery()
        mask = torch.ones_like(ids)
        begin_s = time.perf_counter()
        out = self.model.generate(ids, attention_mask=mask, streamer=first, **self.options)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        decode_s = time.perf_counter() - first.time_s
        new: list[int] = out[0, len(prompt_ids) :].tolist()
        prefill_s = first.time_s - begin_s
        return PeerAnswer(tuple(new), len(new) - first.num_tokens, decode_s, len(prompt_ids), prefill_s)

    def close(self) -> None:
        """Do nothing; the model is released with the peer."""


class _FirstDelivery:
    """transformers streamer that records the time and number of the first new tokens."""

    def __init__(self) -> None:
        self.num_tokens = 0
        self.time_s = 0.0
        self._seen_prompt = False

    def put(self, value: Tensor) -> None:
        """Receive the prompt, then new tokens."""
        if self._seen_prompt and not self.num_tokens:
            self.num_tokens, self.time_s = value.numel(), time.perf_counter()
        self._seen_prompt = True

    def end(self) -> None:
        """Receive the end of the text."""


def _greedy(target: Target, max_tokens: int, **more: int) -> Any:
    from transformers import GenerationConfig

    eos = sorted(target.tokenizer.eos_ids)
    pad = eos[0] if eos else 0
    return GenerationConfig(do_sample=False, max_new_tokens=max_tokens, eos_token_id=eos, pad_token_id=pad, **more)


def _load(model: str, target: Target, metrics: Metrics) -> Any:
    from transformers import AutoModelForCausalLM, GenerationConfig

    try:
        loaded = AutoModelForCausalLM.from_pretrained(model_folder(model, metrics), dtype=target.dtype)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise EdgeAIError(f"transformers cannot load '{model}': {reason}", hint="run without --peers") from error
    loaded.generation_config = GenerationConfig()  # the checkpoint's sampling defaults would override ours
    return loaded.to(target.device).eval()
