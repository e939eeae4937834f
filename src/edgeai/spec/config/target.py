"""Configuration of the target model."""

from __future__ import annotations

from typing import Literal

from edgeai.core.config import Config

DType = Literal["auto", "float32", "bfloat16", "float16"]
Runtime = Literal["torch", "native"]


class TargetConfig(Config):
    """The frozen language model whose output must not change."""

    model: str = "smollm2-135m-instruct"
    """Asset name, local folder, GGUF file or Hugging Face id of a Llama, Mistral, Qwen2 or Qwen3 causal LM."""
    dtype: DType = "auto"
    """Number format of the target; auto selects bfloat16 where this machine multiplies it faster than float32."""
    runtime: Runtime = "torch"
    """Code that computes the target: torch dequantizes the weights; native computes on the CPU with those of a GGUF
    file as they are stored, for decoding only (`spec generate`, `spec bench`)."""
