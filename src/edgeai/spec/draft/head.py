"""The EAGLE-3 draft head: one decoder layer that predicts the target's next tokens from the target's own features.

Parameter names are those of published EAGLE-3 checkpoints (`midlayer.*`), so that state dicts are interchangeable.

Source: EAGLE-3, arXiv 2503.01840, section 3; `fc_norm` and `norm_output` from EAGLE-3.1, arXiv 2605.09992.

Shapes: H hidden, F = 3 H target features, V target vocabulary, D draft vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeai.spec.draft.rope import Rope


@dataclass(frozen=True)
class HeadShape:
    """Everything needed to build a head; stored in its checkpoint."""

    hidden_size: int
    target_hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    vocab_size: int
    draft_vocab_size: int
    aux_layers: tuple[int, ...]
    fc_norm: bool
    norm_output: bool
    norm_before_residual: bool = False
    rope: Rope | None = None
    """Rotary embedding of the head; None uses the target's."""


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm in the number format of its input, so that autocast uses the fused kernel."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last axis."""
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    """Projections of the head's attention; the attention itself differs between training and decoding."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        wide = 2 * shape.hidden_size
        self.q_proj = nn.Linear(wide, shape.num_heads * shape.head_dim, bias=False)
        self.k_proj = nn.Linear(wide, shape.num_kv_heads * shape.head_dim, bias=False)
        self.v_proj = nn.Linear(wide, shape.num_kv_heads * shape.head_dim, bias=False)
        self.o_proj = nn.Linear(shape.num_heads * shape.head_dim, shape.hidden_size, bias=False)


class MLP(nn.Module):
    """SwiGLU feed-forward layer."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., H] to [..., H]."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class MidLayer(nn.Module):
    """The head's decoder layer: attention over concat(embedding, hidden), then an MLP."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.hidden_norm = RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)
        self.input_layernorm = RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)
        self.self_attn = Attention(shape)
        self.mlp = MLP(shape)


class DraftHead(nn.Module):
    """EAGLE-3 head. It uses the target's embedding, which is neither trained nor stored with the head.

    Args:
        shape: Sizes and switches.
        d2t: Offsets [D], int64: the target id of draft token j is j + d2t[j].
    """

    d2t: Tensor
    t2d: Tensor

    def __init__(self, shape: HeadShape, d2t: Tensor | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.fc = nn.Linear(len(shape.aux_layers) * shape.target_hidden_size, shape.hidden_size, bias=False)
        self.midlayer = MidLayer(shape)
        self.norm = RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)
        self.lm_head = nn.Linear(shape.hidden_size, shape.draft_vocab_size, bias=False)
        if shape.fc_norm:
            self.fc_norm = nn.ModuleList(
                RMSNorm(shape.target_hidden_size, eps=shape.rms_norm_eps) for _ in shape.aux_layers
            )
        offsets = torch.zeros(shape.draft_vocab_size, dtype=torch.long) if d2t is None else d2t.long()
        self.register_buffer("d2t", offsets)
        known = torch.zeros(shape.vocab_size, dtype=torch.bool, device=offsets.device)
        known[offsets + torch.arange(shape.draft_vocab_size, device=offsets.device)] = True
        self.register_buffer("t2d", known)

    @property
    def draft_to_target(self) -> Tensor:
        """Target ids of the draft vocabulary, ascending [D]."""
        return self.d2t + torch.arange(self.d2t.shape[0], device=self.d2t.device)

    def project(self, features: Tensor) -> Tensor:
        """Project target features [..., F] to the head's first hidden input g [..., H]."""
        if self.shape.fc_norm:
            parts = features.chunk(len(self.shape.aux_layers), -1)
            features = torch.cat([norm(part) for norm, part in zip(self.fc_norm, parts, strict=True)], -1)
        out: Tensor = self.fc(features)
        return out

    def attention_input(self, embedded: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Join the embedding and the hidden input.

        Args:
            embedded: Target embedding of the input tokens [..., H].
            hidden: Projected target features, or the head's output of the previous step [..., H].

        Returns:
            Attention input [..., 2 H] and residual [..., H].
        """
        normed = self.midlayer.hidden_norm(hidden)
        joined = torch.cat([self.midlayer.input_layernorm(embedded), normed], -1)
        return joined, normed if self.shape.norm_before_residual else hidden

    def finish(self, attended: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Map the attention output to the next hidden input and the input of `lm_head`.

        Args:
            attended: Concatenated attention heads [..., num_heads * head_dim].
            residual: Residual from `attention_input` [..., H].

        Returns:
            Hidden input of the next draft step [..., H] and normalized state for `lm_head` [..., H].
        """
        x = residual + self.midlayer.self_attn.o_proj(attended)
        x = x + self.midlayer.mlp(self.midlayer.post_attention_layernorm(x))
        normed = self.norm(x)
        return (normed if self.shape.norm_output else x), normed

    def num_parameters(self) -> int:
        """Return the number of trainable parameters."""
        return sum(p.numel() for p in self.parameters())


@torch.no_grad()
def initialize(head: DraftHead, *, lm_head: Tensor) -> None:
    """Initialize a head from the target: its output rows, and its deepest feature passed through.

    The head then starts as "the target's late state plus a small correction", which learns faster than random weights.

    Args:
        head: New head.
        lm_head: Output matrix of the target [V, H].
    """
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
    head.midlayer.self_attn.o_proj.weight.mul_(0.1)
    head.midlayer.mlp.down_proj.weight.mul_(0.1)
    head.lm_head.weight.copy_(lm_head[head.draft_to_target].float())
    if head.shape.hidden_size == head.shape.target_hidden_size:
        head.fc.weight[:, -head.shape.hidden_size :] += torch.eye(head.shape.hidden_size)


def draft_vocabulary(counts: Tensor, size: int) -> Tensor:
    """Return offsets d2t of the `size` most frequent tokens [D]; ties and unseen tokens are taken by ascending id.

    Args:
        counts: Number of occurrences of each token in the target's answers [V].
        size: Size D of the draft vocabulary, at most V.
    """
    order = torch.argsort(counts, descending=True, stable=True)[:size]
    kept = order.sort().values
    return kept - torch.arange(kept.shape[0])
