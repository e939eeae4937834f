"""EAGLE-3 drafting at many positions of given texts: the trees of `eagle3.py`, in a few large passes of the head.

The stable keys and values of a text are computed once. A position after token t attends only to the pairs before it,
which do not depend on later text. All positions then grow together, one level at a time.

Source: EAGLE-3 drafting as in `eagle3.py`; sharing a text's keys and growing all positions together is ours.

Shapes: T tokens of a text, F target features, S stable pairs, G positions, W nodes of one level, C columns of tree
keys, nh/nkv query/key heads, hd head width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.dynamic_tree import grow
from edgeai.spec.draft.eagle3 import HeadLayer, head_rotary
from edgeai.spec.draft.tree import DraftTree
from edgeai.spec.target.attention import additive_mask, attend, rotate
from edgeai.spec.target.protocol import Target

PLACES_AT_ONCE = 64  # limits the copies of the texts' keys; enough rows for full speed


@torch.inference_mode()
def propose_along(
    layer: HeadLayer, target: Target, ids: Sequence[int], features: Tensor, roots: Sequence[int], tree: TreeConfig
) -> list[DraftTree]:
    """Draft trees at positions of one text.

    Args:
        layer: Head that matches the target.
        target: Target whose rotary tables are used.
        ids: Tokens of the text [T].
        features: Target features [T, F], at least up to the last root.
        roots: Ascending positions of the roots, at least 1: the tree's root is ids[position].
        tree: Shape of the trees. The caller keeps each root plus `tree.depth` within the target's positions.
    """
    if not roots:
        return []
    text = TextKeys(layer, target, ids, features, roots[-1])
    return propose_at([(text, root) for root in roots], tree)


@torch.inference_mode()
def propose_at(places: Sequence[tuple[TextKeys, int]], tree: TreeConfig) -> list[DraftTree]:
    """Draft trees at positions of several texts with the same head; see `propose_along`."""
    trees: list[DraftTree] = []
    for begin in range(0, len(places), PLACES_AT_ONCE):
        trees += _Places(places[begin : begin + PLACES_AT_ONCE], tree).grow()
    return trees


class TextKeys:
    """Stable keys and values of one text; pair j is (token j + 1, feature j) at position j.

    Args:
        layer: Head that matches the target.
        target: Target whose rotary tables are used.
        ids: Tokens of the text [T].
        features: Target features [T, F], at least `num_pairs` of them.
        num_pairs: Number of pairs S, which is the last position to draft at.
    """

    @torch.inference_mode()
    def __init__(self, layer: HeadLayer, target: Target, ids: Sequence[int], features: Tensor, num_pairs: int) -> None:
        self.layer, self.ids = layer, ids
        self._cos, self._sin = head_rotary(layer.shape, target)
        tokens = torch.tensor(ids[1 : num_pairs + 1], device=features.device)
        heads, self.residual = layer.begin(tokens, layer.project(features[:num_pairs]))
        self.query, self.k, self.v = self.split(heads, torch.arange(num_pairs, device=features.device))

    def split(self, heads: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split joint heads into rotated queries [A, nh, hd] and keys [A, nkv, hd], and values [A, nkv, hd]."""
        num_heads, num_rope = self.layer.shape.num_heads, self.layer.shape.num_heads + self.layer.shape.num_kv_heads
        rotated = rotate(heads[:, :num_rope], self._cos[positions, None], self._sin[positions, None])
        return rotated[:, :num_heads], rotated[:, num_heads:], heads[:, num_rope:]


class _Places:
    """Positions that grow together, with their visible keys and values: those of their text, then the tree's rows."""

    def __init__(self, places: Sequence[tuple[TextKeys, int]], tree: TreeConfig) -> None:
        self._places, self._tree = places, tree
        text = places[0][0]
        shape, device = text.layer.shape, text.k.device
        self._text, self._repeats = text, shape.num_heads // shape.num_kv_heads
        self._num_stable = max(root for _, root in places)
        self._last = torch.tensor([root - 1 for _, root in places], device=device)  # the pair with the root's token
        self._seen = torch.arange(self._num_stable, device=device) <= self._last[:, None, None]  # [G, 1, S]
        rows = self._num_stable + min(tree.top_k, shape.draft_vocab_size) * (tree.depth - 1)
        # zeros, because masked rows must still be finite
        self._k, self._v = (text.k.new_zeros(len(places), shape.num_kv_heads, rows, shape.head_dim) for _ in range(2))
        for row, (text, root) in enumerate(places):
            self._k[row, :, :root], self._v[row, :, :root] = (
                text.k[:root].transpose(0, 1),
                text.v[:root].transpose(0, 1),
            )

    def grow(self) -> list[DraftTree]:
        """Return the trees."""
        query, residual = (
            torch.stack([getattr(text, name)[root - 1] for text, root in self._places])
            for name in ("query", "residual")
        )
        hidden, log_probs = self._text.layer.finish(self._attend(query[:, None], self._seen), residual)
        return grow(
            [text.ids[root] for text, root in self._places],
            hidden,
            log_probs,
            self._expand,
            draft_to_target=self._text.layer.draft_to_target,
            tree=self._tree,
        )

    def _attend(self, query: Tensor, seen: Tensor) -> Tensor:
        """Attend from queries [G, W, nh, hd] to their visible rows [G, W, S + C]; returns outputs [G * W, nh * hd]."""
        end = seen.shape[-1]
        mask = additive_mask(seen, self._repeats, query.dtype)
        return attend(query, self._k[:, :, :end], self._v[:, :, :end], mask).flatten(0, 1)

    def _expand(self, tokens: Tensor, hidden: Tensor, ancestors: Tensor) -> tuple[Tensor, Tensor]:
        """See `dynamic_tree.Expand`."""
        num_places, width, columns = ancestors.shape
        layer = self._text.layer
        heads, residual = layer.begin(tokens.flatten(), hidden.flatten(0, 1))
        positions = (self._last + columns // width).repeat_interleave(width)
        query, k, v = (part.unflatten(0, (num_places, width)) for part in self._text.split(heads, positions))
        end = self._num_stable + columns
        self._k[:, :, end - width : end] = k.transpose(1, 2)
        self._v[:, :, end - width : end] = v.transpose(1, 2)
        seen = torch.cat([self._seen.expand(-1, width, -1), ancestors], 2)
        output, log_probs = layer.finish(self._attend(query, seen), residual)
        return output.unflatten(0, (num_places, width)), log_probs.unflatten(0, (num_places, width))
