"""A decoder-only transformer for Llama-family weights, with one forward pass for prefill, decoding and tree
verification.

At small model sizes, transformers' modules spend more time between matrix products than in them. Here the projections
are fused, RoPE takes three operations and the KV cache is written in place.

Shapes: B batch, T new tokens, L cached plus new tokens, H hidden, nh/nkv query/key heads, hd head width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeai.spec.target.attention import additive_mask, attend, rotate
from edgeai.spec.target.kv_cache import KVCache
from edgeai.spec.target.packed_linear import PackedLinear
from edgeai.spec.target.protocol import Shape

Mix = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Attention of one layer: stores the new keys and values and returns the output [B, T, nh * hd]. Arguments: layer
index, rotated queries [B, T, nh, hd], rotated keys and values [B, T, nkv, hd] of the new tokens."""

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "swish": F.silu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}
"""Activations by their names in configs."""


@dataclass
class Layer:
    """Weights of one decoder layer; qkv and gate/up are fused along the output axis."""

    input_norm: Tensor  # [H]
    qkv: PackedLinear  # [(nh + 2 nkv) hd, H]; Qwen2 has a bias
    q_norm: Tensor | None  # [hd], Qwen3
    k_norm: Tensor | None  # [hd], Qwen3
    out: PackedLinear  # [H, nh hd]
    post_norm: Tensor  # [H]
    gate_up: PackedLinear  # [2 I, H]
    down: PackedLinear  # [H, I]


@dataclass
class Decoder:
    """Weights and forward pass of a Llama, Mistral, Qwen2 or Qwen3 decoder."""

    shape: Shape
    embedding: Tensor  # [V, H]
    layers: list[Layer]
    final_norm: Tensor  # [H]
    lm_head: PackedLinear  # [V, H]
    cos: Tensor  # [positions, hd]
    sin: Tensor
    activation: Callable[[Tensor], Tensor] = F.silu

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return self.embedding.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.embedding.device

    def new_cache(self, capacity: int, batch: int = 1) -> KVCache:
        """Reserve keys and values for `batch` sequences of up to `capacity` tokens."""
        s = self.shape
        size = (batch, s.num_kv_heads, capacity, s.head_dim)
        rows = [torch.zeros(size, dtype=self.dtype, device=self.device) for _ in range(2 * s.num_layers)]
        return KVCache(rows[: s.num_layers], rows[s.num_layers :], [0] * batch)

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        seen: Tensor | None,
        cache: KVCache,
        starts: Tensor | int,
        aux_layers: tuple[int, ...],
    ) -> tuple[Tensor, Tensor]:
        """Run new tokens and write their keys and values at `starts` without committing them.

        Args:
            ids: New tokens [B, T].
            positions: RoPE positions [B, T].
            seen: Attention mask [B or 1, T, L], True = visible; None makes all rows visible.
            cache: KV cache, of which rows [0, L) are read.
            starts: First row to write: one int for all sequences, or one per sequence [B].
            aux_layers: Layers whose input states are the features.

        Returns:
            hidden [B, T, H] after the final norm (input of `logits`) and features [B, T, len(aux_layers) * H].
        """
        num_new = ids.shape[1]
        mask = (
            None if seen is None else additive_mask(seen, self.shape.num_heads // self.shape.num_kv_heads, self.dtype)
        )
        if isinstance(starts, int):
            end = starts + num_new
            rows = sequence = None
        else:
            rows = starts[:, None] + torch.arange(num_new, device=ids.device)  # [B, T]
            sequence = torch.arange(ids.shape[0], device=ids.device)[:, None]
            end = int(starts.max()) + num_new
        if mask is not None:
            end = mask.shape[-1]

        def mix(index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if rows is None:
                cache.k[index][:, :, end - num_new : end] = k.transpose(1, 2)
                cache.v[index][:, :, end - num_new : end] = v.transpose(1, 2)
            else:
                cache.k[index][sequence, :, rows] = k
                cache.v[index][sequence, :, rows] = v
            return attend(q, cache.k[index][:, :, :end], cache.v[index][:, :, :end], mask)

        return self.run(ids, positions, mix, aux_layers)

    def run(self, ids: Tensor, positions: Tensor, mix: Mix, aux_layers: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Run all layers, with a given attention.

        Args:
            ids: New tokens [B, T].
            positions: RoPE positions [B, T].
            mix: Attention over cached keys and values.
            aux_layers: Layers whose input states are the features.

        Returns:
            See `forward`.
        """
        s = self.shape
        batch, num_new = ids.shape
        num_rope = s.num_heads + s.num_kv_heads
        cos, sin = self.cos[positions][:, :, None], self.sin[positions][:, :, None]  # [B, T, 1, hd]
        x = F.embedding(ids, self.embedding)
        features = []
        for index, layer in enumerate(self.layers):
            if index in aux_layers:
                features.append(x)
            y = F.rms_norm(x, (s.hidden_size,), layer.input_norm, s.rms_norm_eps)
            qkv = layer.qkv(y).view(batch, num_new, -1, s.head_dim)
            qk, v = qkv[:, :, :num_rope], qkv[:, :, num_rope:]
            if layer.q_norm is not None and layer.k_norm is not None:
                q = F.rms_norm(qk[:, :, : s.num_heads], (s.head_dim,), layer.q_norm, s.rms_norm_eps)
                k = F.rms_norm(qk[:, :, s.num_heads :], (s.head_dim,), layer.k_norm, s.rms_norm_eps)
                qk = torch.cat([q, k], 2)
            qk = rotate(qk, cos, sin)
            x = x + layer.out(mix(index, qk[:, :, : s.num_heads], qk[:, :, s.num_heads :], v))
            y = F.rms_norm(x, (s.hidden_size,), layer.post_norm, s.rms_norm_eps)
            gate, up = layer.gate_up(y).chunk(2, -1)
            x = x + layer.down(self.activation(gate) * up)
        hidden = F.rms_norm(x, (s.hidden_size,), self.final_norm, s.rms_norm_eps)
        return hidden, torch.cat(features, -1) if features else x.new_empty(batch, num_new, 0)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return next-token logits [..., V], in float32 so that sampling is independent of the target's number
        format.
        """
        return self.lm_head(hidden).float()
