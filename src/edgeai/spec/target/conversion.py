"""Converting the weights of a transformers model to a `Decoder`, with fused and packed projections."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeai.core.errors import EdgeAIError
from edgeai.spec.target.attention import rotary_table
from edgeai.spec.target.decoder import ACTIVATIONS, Decoder, Layer
from edgeai.spec.target.packed_linear import PackedLinear
from edgeai.spec.target.protocol import Shape


def to_decoder(hf_model: Any, device: str) -> tuple[Decoder, Tensor]:
    """Convert a transformers model to a `Decoder`; also returns the unpacked output matrix [V, H].

    Args:
        hf_model: Causal language model of transformers.
        device: Torch device of the decoder.

    Raises:
        EdgeAIError: The model has weights that the decoder does not support.
    """
    config, weights = hf_model.config, _Weights(dict(hf_model.state_dict()), device)
    layers = [_layer(weights, index) for index in range(config.num_hidden_layers)]
    embedding = weights.take("model.embed_tokens.weight")
    lm_head = weights.take("lm_head.weight")
    if config.tie_word_embeddings:
        check_tied(embedding, lm_head)
        lm_head = embedding
    final_norm = weights.take("model.norm.weight")
    weights.check_empty()
    rotary, shape = hf_model.model.rotary_emb, shape_of(config, vocab_size=embedding.shape[0])
    cos, sin = rotary_table(
        rotary.inv_freq.to(device), float(rotary.attention_scaling), shape.max_positions, embedding.dtype
    )
    decoder = Decoder(
        shape=shape,
        embedding=embedding,
        layers=layers,
        final_norm=final_norm,
        lm_head=PackedLinear(lm_head),
        cos=cos,
        sin=sin,
        activation=ACTIVATIONS[config.hidden_act],
    )
    return decoder, lm_head


def check_tied(embedding: Tensor, lm_head: Tensor) -> None:
    """Check that a stored output matrix is the embedding, as the config says.

    Raises:
        EdgeAIError: It is another matrix, so that some tools use it and others do not.
    """
    if lm_head.data_ptr() != embedding.data_ptr() and not torch.equal(lm_head, embedding):
        raise EdgeAIError(
            "the model's config has tie_word_embeddings: true, but its lm_head.weight is not the embedding",
            hint="set tie_word_embeddings to false in its config.json if lm_head.weight is to be used",
        )


class _Weights:
    """Weights by name, removed as they are used."""

    def __init__(self, tensors: dict[str, Tensor], device: str) -> None:
        self._tensors, self._device = tensors, device

    def take(self, *names: str) -> Tensor:
        """Return the weights, concatenated along the output axis if there are several."""
        parts = [self._tensors.pop(name) for name in names]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).to(self._device)

    def optional(self, *names: str) -> Tensor | None:
        """Return the weights as `take` does; None if the model has none."""
        return self.take(*names) if names[0] in self._tensors else None

    def check_empty(self) -> None:
        """Check that all weights were used."""
        if rest := sorted(self._tensors):
            raise EdgeAIError(f"the model has unsupported weights: {', '.join(rest[:3])}")


def _layer(weights: _Weights, index: int) -> Layer:
    layer = f"model.layers.{index}"
    at, mlp = f"{layer}.self_attn", f"{layer}.mlp"
    return Layer(
        input_norm=weights.take(f"{layer}.input_layernorm.weight"),
        qkv=PackedLinear(
            weights.take(f"{at}.q_proj.weight", f"{at}.k_proj.weight", f"{at}.v_proj.weight"),
            weights.optional(f"{at}.q_proj.bias", f"{at}.k_proj.bias", f"{at}.v_proj.bias"),
        ),
        q_norm=weights.optional(f"{at}.q_norm.weight"),
        k_norm=weights.optional(f"{at}.k_norm.weight"),
        out=PackedLinear(weights.take(f"{at}.o_proj.weight"), weights.optional(f"{at}.o_proj.bias")),
        post_norm=weights.take(f"{layer}.post_attention_layernorm.weight"),
        gate_up=PackedLinear(
            weights.take(f"{mlp}.gate_proj.weight", f"{mlp}.up_proj.weight"),
            weights.optional(f"{mlp}.gate_proj.bias", f"{mlp}.up_proj.bias"),
        ),
        down=PackedLinear(weights.take(f"{mlp}.down_proj.weight"), weights.optional(f"{mlp}.down_proj.bias")),
    )


def shape_of(config: Any, *, vocab_size: int) -> Shape:
    """Return the shape that a config of transformers describes."""
    max_positions = config.max_position_embeddings
    window = getattr(config, "sliding_window", None)
    if window and (config.model_type == "mistral" or getattr(config, "use_sliding_window", True)):  # no key of Mistral
        max_positions = min(max_positions, window)  # within the window, sliding attention equals full attention
    return Shape(
        vocab_size=vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        rms_norm_eps=config.rms_norm_eps,
        max_positions=max_positions,
    )


def rotary_of(config: Any) -> tuple[np.ndarray, float]:
    """Return the rotary frequencies [hd / 2] that transformers computes for a config, and the factor of their cosines.

    For rotary embeddings that depend on the length of the text these are the ones of short texts.
    """
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding  # the same in all families

    rotary = LlamaRotaryEmbedding(config)
    return rotary.inv_freq.float().numpy(), float(rotary.attention_scaling)
