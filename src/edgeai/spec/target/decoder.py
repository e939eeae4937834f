"""A lean decoder-only transformer for Llama-family weights: one forward pass serves prefill, decoding and tree
verification.

transformers' modules spend more time between matrix products than in them at this size; here the projections are
fused, RoPE is three operations and the KV cache is written in place.

Shapes: B batch, T new tokens, L cached plus new tokens, H hidden, nh/nkv query/key heads, hd head width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeai.spec.target.packed_linear import PackedLinear

Mix = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Layer index, rotated queries [B, T, nh, hd] and keys and values [B, T, nkv, hd] of the new tokens to the attention's
output [B, T, nh * hd]; also keeps the new keys and values."""


@dataclass(frozen=True)
class Shape:
    """What the weights of a decoder look like, in the field's usual names."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    max_positions: int


@dataclass
class Layer:
    """Weights of one decoder layer; qkv and gate/up are fused along their output axis."""

    input_norm: Tensor  # [H]
    qkv: PackedLinear  # [(nh + 2 nkv) hd, H]; Qwen2 has a bias
    q_norm: Tensor | None  # [hd], Qwen3
    k_norm: Tensor | None  # [hd], Qwen3
    out: PackedLinear  # [H, nh hd]
    post_norm: Tensor  # [H]
    gate_up: PackedLinear  # [2 I, H]
    down: PackedLinear  # [H, I]


@dataclass
class KVCache:
    """Pre-allocated keys and values of `batch` sequences; `lengths` rows of each are committed."""

    k: list[Tensor]  # per layer [B, nkv, capacity, hd]
    v: list[Tensor]
    lengths: list[int] = field(default_factory=list)

    @property
    def capacity(self) -> int:
        """Rows per sequence."""
        return self.k[0].shape[2]

    def keep(self, row: int, path: Tensor) -> None:
        """Commit a path of the rows written last: gather them behind the committed prefix and move its end.

        Args:
            row: Sequence in the batch.
            path: Offsets from the committed end of the rows to keep, ascending. [A]
        """
        start = self.lengths[row]
        count = int(path.shape[0])
        if count and int(path[-1]) != count - 1:  # a chain is already in place
            source = path + start
            for cache in (*self.k, *self.v):
                cache[row, :, start : start + count] = cache[row].index_select(1, source)
        self.lengths[row] = start + count

    def shrink(self, rows: list[int]) -> None:
        """Keep only these sequences of the batch."""
        self.k = [k[rows] for k in self.k]
        self.v = [v[rows] for v in self.v]
        self.lengths = [self.lengths[row] for row in rows]


def rotary_table(inv_freq: Tensor, scale: float, num_positions: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sign-folded sine of every position, so that RoPE is `x * cos + roll(x, hd / 2) * sin`.

    Returns:
        Two tensors [num_positions, hd].
    """
    angle = torch.outer(torch.arange(num_positions, dtype=torch.float32, device=inv_freq.device), inv_freq.float())
    cos, sin = angle.cos() * scale, angle.sin() * scale
    return torch.cat([cos, cos], -1).to(dtype), torch.cat([-sin, sin], -1).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of x [..., hd] with tables that broadcast to it."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Grouped-query attention without copying keys: query heads of a group become extra query rows.

    Args:
        q: [B, T, nh, hd].
        k: [B, nkv, L, hd].
        v: [B, nkv, L, hd].
        mask: Additive, [B or 1, 1, group * T, L] from `additive_mask`, or None to see everything.

    Returns:
        [B, T, nh * hd].
    """
    batch, num_new, num_heads, width = q.shape
    num_kv = k.shape[1]
    group = num_heads // num_kv
    folded = q.view(batch, num_new, num_kv, group, width).permute(0, 2, 3, 1, 4).reshape(batch, num_kv, -1, width)
    out = F.scaled_dot_product_attention(folded, k, v, attn_mask=mask)  # [B, nkv, group * T, hd]
    return out.view(batch, num_kv, group, num_new, width).permute(0, 3, 1, 2, 4).reshape(batch, num_new, -1)


def additive_mask(seen: Tensor, group: int, dtype: torch.dtype) -> Tensor:
    """Turn a boolean mask [B or 1, T, L] (True = see) into the additive one of `attend`."""
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))
    return mask.repeat(1, group, 1)[:, None]


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

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return self.embedding.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
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
            seen: Which rows each new token may see [B or 1, T, L], True = see; None lets all see all.
            cache: Keys and values; rows [0, L) are read.
            starts: First row written: one int for all sequences, or one per sequence [B].
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
        """All layers, with the attention over cached keys and values left to `mix`.

        Args:
            ids: New tokens [B, T].
            positions: RoPE positions [B, T].
            mix: See `Mix`.
            aux_layers: Layers whose input states are the features.

        Returns:
            As `forward`.
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
            x = x + layer.down(F.silu(gate) * up)
        hidden = F.rms_norm(x, (s.hidden_size,), self.final_norm, s.rms_norm_eps)
        return hidden, torch.cat(features, -1) if features else x.new_empty(batch, num_new, 0)

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits [..., V] in float32, so that sampling never depends on the target's number format."""
        return self.lm_head(hidden).float()
