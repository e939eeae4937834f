"""Rotary position embedding and grouped-query attention, shared by the target and the draft head.

Shapes: B batch, T new tokens, L cached plus new tokens, nh/nkv query/key heads, hd head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rotary_table(inv_freq: Tensor, scale: float, num_positions: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cosine and sign-folded sine tables, so that RoPE is `x * cos + roll(x, hd / 2) * sin`.

    Returns:
        Two tensors [num_positions, hd].
    """
    angle = torch.outer(torch.arange(num_positions, dtype=torch.float32, device=inv_freq.device), inv_freq.float())
    cos, sin = angle.cos() * scale, angle.sin() * scale
    return torch.cat([cos, cos], -1).to(dtype), torch.cat([-sin, sin], -1).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary position embedding to x [..., hd] with tables that broadcast to it."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Compute grouped-query attention without copying keys: query heads of a group become extra query rows.

    Args:
        q: Queries [B, T, nh, hd].
        k: Keys [B, nkv, L, hd].
        v: Values [B, nkv, L, hd].
        mask: Additive mask [B or 1, 1, group * T, L] from `additive_mask`; None makes all rows visible.

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
    """Convert a boolean mask [B or 1, T, L] (True = visible) to the additive mask of `attend`."""
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))
    return mask.repeat(1, group, 1)[:, None]
