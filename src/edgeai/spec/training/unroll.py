"""Differentiable unrolling of the head over its own outputs: the arithmetic of drafting, at many positions at once.

At a query t, step i: the input token is x[t+1] at i = 0 and a drafted one afterwards; the input feature is fc(a[t]) at
i = 0 and the head's own output afterwards. Keys: those of step 0 at positions <= t, and of later steps only the
query's own.

Source: EAGLE-3, arXiv 2503.01840, section 3.1 (training-time test).

Shapes: B sequences, T positions, Q queries of a sequence, S draft steps, H hidden, nh/nkv query/key heads, hd head
width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeai.spec.draft.head import DraftHead
from edgeai.spec.target.attention import rotate


class Unroll:
    """Unrolls a head along given continuations.

    Args:
        head: Draft head.
        embedding: Frozen embedding of the target [V, H].
        cos: Cosine table of the head's RoPE [positions, hd].
        sin: Sine table of the head's RoPE [positions, hd].
        dtype: Number format of the matrix products.
    """

    def __init__(self, head: DraftHead, *, embedding: Tensor, cos: Tensor, sin: Tensor, dtype: torch.dtype) -> None:
        self._head = head
        self._embedding = embedding
        self._cos, self._sin = cos.float(), sin.float()
        self._dtype = dtype

    def __call__(self, ids: Tensor, features: Tensor, queries: Tensor, tokens: Tensor) -> list[Tensor]:
        """Run S draft steps.

        Args:
            ids: Token ids of the texts [B, T].
            features: Target features [B, T, 3 H].
            queries: Positions t, at most T - 2 [B, Q].
            tokens: Input tokens of steps 1 to S - 1 [B, Q, S - 1].

        Returns:
            Input of the head's `lm_head` at each step, S times [B, Q, H]; step i predicts token t + 2 + i.
        """
        head, device = self._head, ids.device
        attention, shape = head.midlayer.self_attn, head.shape
        rows = torch.arange(ids.shape[0], device=device)[:, None]
        states = []
        with torch.autocast(device.type, dtype=self._dtype, enabled=self._dtype != torch.float32):
            projected = head.project(features[:, :-1].to(self._dtype))  # [B, T-1, H]
            joined, first_residual = head.attention_input(self._embed(ids[:, 1:]), projected)
            positions = torch.arange(joined.shape[1], device=device)
            k0 = self._rope(attention.k_proj(joined), shape.num_kv_heads, positions[None])  # [B, T-1, nkv, hd]
            v0 = attention.v_proj(joined).unflatten(-1, (shape.num_kv_heads, shape.head_dim))
            hidden = projected.new_zeros(0)
            unseen = positions[None, None] > queries[..., None]  # [B, Q, T-1]
            later: list[tuple[Tensor, Tensor]] = []  # keys and values of steps >= 1, each [B, Q, nkv, hd]
            for step in range(tokens.shape[-1] + 1):
                if step == 0:
                    joined_q, residual = joined[rows, queries], first_residual[rows, queries]  # [B, Q, ...]
                else:
                    joined_q, residual = head.attention_input(self._embed(tokens[..., step - 1]), hidden)
                # rows that do not count may exceed the table
                at = (queries + step).clamp_max(self._cos.shape[0] - 1)
                q = self._rope(attention.q_proj(joined_q), shape.num_heads, at)
                if step > 0:
                    k = self._rope(attention.k_proj(joined_q), shape.num_kv_heads, at)
                    v = attention.v_proj(joined_q).unflatten(-1, (shape.num_kv_heads, shape.head_dim))
                    later.append((k, v))
                hidden, normed = head.finish(_attend_steps(q, k0, v0, unseen, later), residual)
                states.append(normed)
        return states

    def _embed(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self._embedding).to(self._dtype)

    def _rope(self, x: Tensor, num_heads: int, positions: Tensor) -> Tensor:
        split = x.unflatten(-1, (num_heads, self._head.shape.head_dim))
        cos, sin = self._cos[positions][:, :, None], self._sin[positions][:, :, None]
        return rotate(split.float(), cos, sin).to(x.dtype)


def _attend_steps(q: Tensor, k0: Tensor, v0: Tensor, unseen: Tensor, later: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Attend from queries to the first step's keys and to their own keys of later steps.

    The later keys form diagonals, so their scores are element-wise products appended as extra columns; no matrix with
    S * T columns is built.

    Args:
        q: Queries [B, Q, nh, hd].
        k0: Keys of step 0 [B, T, nkv, hd].
        v0: Values of step 0 [B, T, nkv, hd].
        unseen: Mask of the keys that a query does not attend to [B, Q, T].
        later: Keys and values of later steps, each [B, Q, nkv, hd].

    Returns:
        Attention output [B, Q, nh * hd].
    """
    num_batch, num_queries, num_heads, width = q.shape
    num_kv = k0.shape[2]
    q = q.unflatten(2, (num_kv, -1)) * width**-0.5  # [B, Q, nkv, g, hd]
    scores = torch.einsum("bqngd,btnd->bnqgt", q, k0).masked_fill(unseen[:, None, :, None], float("-inf"))
    diagonals = [(q * k[:, :, :, None]).sum(-1).permute(0, 2, 1, 3)[..., None] for k, _ in later]
    weights = torch.cat([scores, *diagonals], -1).float().softmax(-1).to(v0.dtype)
    num_first = k0.shape[1]
    out = torch.einsum("bnqgt,btnd->bqngd", weights[..., :num_first], v0)
    for index, (_, v) in enumerate(later):
        out = out + weights[..., num_first + index].permute(0, 2, 1, 3)[..., None] * v[:, :, :, None]
    return out.reshape(num_batch, num_queries, num_heads * width)
