"""Configuration of the target model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from edgeai.core.config import Config

DType = Literal["auto", "float32", "bfloat16", "float16"]
Runtime = Literal["torch", "native"]
Weights = Literal["as_is", "q8", "q4"]
RuntimeChoice = Literal["auto", "torch", "native"]


class TargetConfig(Config):
    """The frozen language model whose output must not change."""

    model: str = "smollm2-135m-instruct"
    """Asset name, local folder, GGUF file or Hugging Face id of a Llama, Mistral, Qwen2 or Qwen3 causal LM."""
    dtype: DType = "auto"
    """Number format of the target on torch, and of its features on every runtime; auto selects bfloat16 where this
    machine multiplies it faster than float32."""
    runtime: RuntimeChoice = "auto"
    """Code that computes the target: torch dequantizes the weights of a GGUF file; native computes on the CPU with the
    weights as they are stored, several times as fast. auto selects native for a GGUF file on the CPU if dtype is auto
    and the native runtime supports the model and this machine, else torch."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Values passed to the model's chat template, such as {enable_thinking: false} for Qwen3."""
    weights: Weights = "as_is"
    """Weights of a Hugging Face checkpoint on the native runtime: as_is keeps the stored number format; q8 and q4
    quantize to 8 or 4 bits in groups of 32, once, and report what that costs (with q4, embedding and output matrix have
    8 bits). runtime auto selects native for q8 and q4. The weights of a GGUF file always stay as they are."""
