"""Peers of `spec bench`: transformers' own `generate`, plain, with prompt lookup, and with an assistant model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgeai.core.errors import EdgeAIError
from edgeai.core.metrics import Metrics
from edgeai.spec.target.loading import model_folder
from edgeai.spec.target.protocol import Target

# the length that transformers' documentation recommends for prompt lookup
LOOKUP_TOKENS = 10


@dataclass(frozen=True)
class PeerAnswer:
    """Answer of a peer."""

    ids: tuple[int, ...]
    """Generated tokens, including an end-of-text token."""
    num_timed: int
    """Tokens delivered after the first delivery, which includes the prefill."""
    decode_s: float
    """Time after the first delivery."""


class Peers:
    """transformers with the target's weights.

    Args:
        model: Model as in `target.model`.
        target: The loaded target, for number format, device and end-of-text tokens.
        max_tokens: Most tokens per answer.
        assistant: Model for assisted generation; empty leaves that out.
        metrics: Receives progress of a download.
    """

    def __init__(self, model: str, target: Target, *, max_tokens: int, assistant: str, metrics: Metrics) -> None:
        self._device = target.device
        self._model = _load(model, target, metrics)
        config = _greedy(target, max_tokens)
        lookup = _greedy(target, max_tokens, prompt_lookup_num_tokens=LOOKUP_TOKENS)
        self._options: dict[str, dict[str, Any]] = {
            "transformers generate": {"generation_config": config},
            "transformers prompt lookup": {"generation_config": lookup},
        }
        if assistant:
            helper = _load(assistant, target, metrics)
            self._options["transformers assisted"] = {"generation_config": config, "assistant_model": helper}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the peers."""
        return tuple(self._options)

    @torch.inference_mode()
    def answer(self, name: str, prompt_ids: Sequence[int]) -> PeerAnswer:
        """Answer a prompt greedily with one peer."""
        ids = torch.tensor([list(prompt_ids)], device=self._device)
        first = _FirstDelivery()
        mask = torch.ones_like(ids)
        out = self._model.generate(ids, attention_mask=mask, streamer=first, **self._options[name])
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        decode_s = time.perf_counter() - first.time_s
        new: list[int] = out[0, len(prompt_ids) :].tolist()
        return PeerAnswer(tuple(new), len(new) - first.num_tokens, decode_s)


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
