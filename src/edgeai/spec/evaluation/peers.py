"""The same prompts with transformers' own generate: plain, with prompt lookup, and with an assistant model.

Imports transformers, as `target.py` does, because the peer is transformers itself.
"""

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

# transformers' documentation recommends this length for prompt lookup
LOOKUP_TOKENS = 10


@dataclass(frozen=True)
class PeerAnswer:
    """One answer of a peer."""

    ids: tuple[int, ...]
    """Generated tokens, an end-of-text token included."""
    num_timed: int
    """Tokens delivered after the first delivery, which ends with the prefill."""
    decode_s: float
    """Time since the first delivery."""


class Peers:
    """transformers on the same weights.

    Args:
        model: What `target.model` says.
        target: Ours; gives number format, device and end-of-text tokens.
        max_tokens: Most tokens per answer.
        assistant: Model for assisted generation, or empty to leave that out.
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
        """What is compared with."""
        return tuple(self._options)

    @torch.inference_mode()
    def answer(self, name: str, prompt_ids: Sequence[int]) -> PeerAnswer:
        """Greedy answer of one peer."""
        ids = torch.tensor([list(prompt_ids)], device=self._device)
        clock = _Deliveries()
        mask = torch.ones_like(ids)
        out = self._model.generate(ids, attention_mask=mask, streamer=clock, **self._options[name])
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        decode_s = time.perf_counter() - clock.first_s
        new: list[int] = out[0, len(prompt_ids) :].tolist()
        return PeerAnswer(tuple(new), len(new) - clock.num_first, decode_s)


class _Deliveries:
    """A transformers streamer that notes when the first new tokens came, and how many they were."""

    def __init__(self) -> None:
        self.num_first = 0
        self.first_s = 0.0
        self._seen_prompt = False

    def put(self, value: Tensor) -> None:
        """Called with the prompt, then with new tokens."""
        if self._seen_prompt and not self.num_first:
            self.num_first, self.first_s = value.numel(), time.perf_counter()
        self._seen_prompt = True

    def end(self) -> None:
        """Called at the end of the text."""


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
        raise EdgeAIError(f"transformers cannot load '{model}': {reason}", hint="run bench without --peers") from error
    loaded.generation_config = GenerationConfig()  # the checkpoint's own sampling defaults would mix into ours
    return loaded.to(target.device).eval()
