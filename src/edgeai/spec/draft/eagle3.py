"""The EAGLE-3 drafter: the arithmetic of training, arranged for a few tokens at a time.

The input pair at position t is (token t + 1, target feature of token t). The pairs of accepted text have stable keys
and values. Because the head has one layer, only the newest pair needs more than its key and value. Deeper tree levels
feed the head's own output back; their keys and values are overwritten in the next cycle.

Source: EAGLE-3, arXiv 2503.01840, section 3; tree expansion from EAGLE-2, arXiv 2406.16858, section 4.1.

Shapes: A newly accepted pairs, W nodes of one level, C columns of tree keys so far, H hidden, D draft vocabulary,
nh/nkv query/key heads, hd head width, F target features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.dynamic_tree import grow
from edgeai.spec.draft.head import DraftHead, HeadShape
from edgeai.spec.draft.head_checks import check_fit
from edgeai.spec.draft.tree import DraftTree
from edgeai.spec.target.attention import additive_mask, attend, rotate
from edgeai.spec.target.packed_linear import PackedLinear
from edgeai.spec.target.protocol import Target


class HeadLayer:
    """A head's layer without attention, with fused and packed weights in the target's number format.

    Args:
        head: Trained head.
        target: Target whose embedding, number format and device are used.
    """

    def __init__(self, head: DraftHead, target: Target) -> None:
        def take(weight: Tensor) -> Tensor:
            return weight.detach().to(target.device, target.dtype)

        layer, attn, mlp = head.midlayer, head.midlayer.self_attn, head.midlayer.mlp
        self.shape = head.shape
        self.dtype, self.device = target.dtype, target.device
        self._embed = target.embed
        self.draft_to_target = head.draft_to_target.to(target.device)
        self.fc_norm: Tensor | None = None  # [3, H]
        if head.shape.fc_norm:
            self.fc_norm = take(torch.stack([norm.get_parameter("weight") for norm in head.fc_norm]))
        self.fc = PackedLinear(take(head.fc.weight))
        self.input_norm = take(layer.input_layernorm.weight)
        self.hidden_norm = take(layer.hidden_norm.weight)
        self.post_norm = take(layer.post_attention_layernorm.weight)
        self.norm = take(head.norm.weight)
        self.qkv = PackedLinear(take(torch.cat([attn.q_proj.weight, attn.k_proj.weight, attn.v_proj.weight])))
        self.out = PackedLinear(take(attn.o_proj.weight))
        self.gate_up = PackedLinear(take(torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])))
        self.down = PackedLinear(take(mlp.down_proj.weight))
        self.lm_head = PackedLinear(take(head.lm_head.weight))

    def project(self, features: Tensor) -> Tensor:
        """Project target features [A, F] to hidden inputs [A, H]."""
        if self.fc_norm is not None:
            parts = features.view(features.shape[0], len(self.fc_norm), -1)
            normed = F.rms_norm(parts, parts.shape[-1:], None, self.shape.rms_norm_eps) * self.fc_norm
            features = normed.view(features.shape)
        return self.fc(features)

    def begin(self, tokens: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Map tokens [A] and hidden inputs [A, H] to joint query, key and value heads [A, nh + 2 nkv, hd] and
        residual.
        """
        embedded = self._norm(self._embed(tokens), self.input_norm)
        normed = self._norm(hidden, self.hidden_norm)
        heads = self.qkv(torch.cat([embedded, normed], -1)).view(tokens.shape[0], -1, self.shape.head_dim)
        return heads, normed if self.shape.norm_before_residual else hidden

    def finish(self, attended: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Map attention output [W, nh hd] to the next level's hidden input [W, H] and log probabilities [W, D]."""
        x = residual + self.out(attended)
        gate, up = self.gate_up(self._norm(x, self.post_norm)).chunk(2, -1)
        x = x + self.down(F.silu(gate) * up)
        normed = self._norm(x, self.norm)
        log_probs = self.lm_head(normed).float().log_softmax(-1)
        return (normed if self.shape.norm_output else x), log_probs

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self.shape.rms_norm_eps)


class Eagle3:
    """Drafter with a trained head.

    Args:
        head: Head trained for this target.
        target: Target whose embedding, rotary tables, number format and device are used.
        name: Identifier of the head's weights in caches of measurements.

    Raises:
        EdgeAIError: The head's shape does not match the target.
    """

    def __init__(self, head: DraftHead, target: Target, *, name: str) -> None:
        check_fit(head, target)
        self.name = name
        self._layer = HeadLayer(head, target)
        self.aux_layers = head.shape.aux_layers
        self.vocabulary: Tensor | None = self._layer.draft_to_target
        self._cos, self._sin = head_rotary(head.shape, target)
        self._num_kv = head.shape.num_kv_heads
        self._num_heads = head.shape.num_heads
        self._k = self._v = torch.empty(1, self._num_kv, 0, head.shape.head_dim)
        self._reserve(0)
        self._num_stable = 0
        # accepted but not yet processed by the head: features of the last tokens, and the tokens that follow them
        self._features = torch.empty(0)
        self._tokens: list[int] = []

    @property
    def layer(self) -> HeadLayer:
        """The layer of the head, for drafting at many positions."""
        return self._layer

    @torch.inference_mode()
    def start(self, ids: Sequence[int], features: Tensor) -> None:
        """See `Drafter`. All pairs except the last, whose token is not known yet, become stable keys and values."""
        self._num_stable = 0
        if len(ids) > 1:
            self._extend(torch.tensor(ids[1:], device=features.device), features[:-1])
        self._tokens, self._features = [], features[-1:]

    def accept(self, tokens: Sequence[int], features: Tensor) -> None:
        """See `Drafter`."""
        if self._features.shape[0] == 0:  # propose has already paired tokens[0]
            self._tokens, self._features = list(tokens[1:]), features
        else:
            self._tokens, self._features = [*self._tokens, *tokens], torch.cat([self._features, features])

    @torch.inference_mode()
    def propose(self, root: int, tree: TreeConfig) -> DraftTree:
        """See `Drafter`."""
        hidden, log_probs = self._confirm(root)
        return grow([root], hidden, log_probs, self._expand, draft_to_target=self._layer.draft_to_target, tree=tree)[0]

    def _confirm(self, root: int) -> tuple[Tensor, Tensor]:
        """Process the accepted pairs, the root's last; returns the root's output [1, H] and log probabilities [1,
        D].
        """
        tokens = torch.tensor([*self._tokens, root], device=self._features.device)
        query, residual = self._extend(tokens, self._features)
        end = self._num_stable
        attended = attend(query[None, -1:], self._k[:, :, :end], self._v[:, :, :end], None)
        self._tokens, self._features = [], self._features[:0]
        return self._layer.finish(attended[0], residual[-1:])

    def _extend(self, tokens: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Add pairs to the stable keys and values; returns their queries [A, nh, hd] and residuals [A, H]."""
        begin, self._num_stable = self._num_stable, self._num_stable + tokens.shape[0]
        self._reserve(self._num_stable)
        heads, residual = self._layer.begin(tokens, self._layer.project(features))
        query = self._write(heads, begin, slice(begin, self._num_stable))
        return query, residual

    def _expand(self, tokens: Tensor, hidden: Tensor, ancestors: Tensor) -> tuple[Tensor, Tensor]:
        """See `dynamic_tree.Expand`: W tokens at one position, after C - W tree rows of earlier levels.

        Their keys and values are stored after the stable ones.
        """
        _, width, columns = ancestors.shape
        begin = self._num_stable + columns - width
        end = begin + width
        self._reserve(end)
        heads, residual = self._layer.begin(tokens[0], hidden[0])
        position = self._num_stable - 1 + columns // width  # the root's pair, depth 0, is the last stable one
        query = self._write(heads, begin, slice(position, position + 1))
        stable = ancestors.new_ones(1, width, self._num_stable)
        seen = torch.cat([stable, ancestors], 2)
        mask = additive_mask(seen, self._num_heads // self._num_kv, query.dtype)
        attended = attend(query[None], self._k[:, :, :end], self._v[:, :, :end], mask)
        output, log_probs = self._layer.finish(attended[0], residual)
        return output[None], log_probs[None]

    def _write(self, heads: Tensor, begin: int, positions: slice) -> Tensor:
        """Store keys and values from row `begin`; returns the queries [A, nh, hd]."""
        num_rope = self._num_heads + self._num_kv
        rotated = rotate(heads[:, :num_rope], self._cos[positions, None], self._sin[positions, None])
        end = begin + heads.shape[0]
        self._k[0, :, begin:end] = rotated[:, self._num_heads :].transpose(0, 1)
        self._v[0, :, begin:end] = heads[:, num_rope:].transpose(0, 1)
        return rotated[:, : self._num_heads]

    def _reserve(self, rows: int) -> None:
        """Grow the cache to at least this number of rows."""
        old = self._k.shape[2]
        if rows <= old and old:
            return
        layer = self._layer
        size = (1, self._num_kv, max(512, 2 * rows), layer.shape.head_dim)
        k, v = (torch.zeros(size, dtype=layer.dtype, device=layer.device) for _ in range(2))
        k[:, :, :old], v[:, :, :old] = self._k, self._v
        self._k, self._v = k, v


def head_rotary(shape: HeadShape, target: Target) -> tuple[Tensor, Tensor]:
    """Return the rotary tables of a head: the target's, unless the head was trained with its own."""
    if shape.rope is None:
        return target.rotary
    cos, sin = shape.rope.tables(shape.head_dim, target.shape.max_positions, target.dtype)
    return cos.to(target.device), sin.to(target.device)
