"""Drafting at many places of one text: the trees that `Eagle3` would propose there, in a few large passes of the head.

The stable keys and values of the text are computed once; a place behind token t sees those of the pairs before it only,
which are the same whatever follows. All places then grow one level at a time together.

Source: EAGLE-3 drafting as in `eagle3.py`; sharing the text's keys and growing all places together is ours.

Shapes: T tokens of the text, F target features, S stable pairs, G places, W nodes of one level, C columns of tree keys,
nh/nkv query/key heads, hd head width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edgeai.spec.decoder import additive_mask, attend, rotate
from edgeai.spec.drafters.beam import grow
from edgeai.spec.drafters.eagle3 import HeadLayer
from edgeai.spec.schema import TreeConfig
from edgeai.spec.target import Target
from edgeai.spec.tree import DraftTree

PLACES_AT_ONCE = 64  # bounds the copies of the text's keys; enough rows for full speed


@torch.inference_mode()
def propose_along(
    layer: HeadLayer, target: Target, ids: Sequence[int], features: Tensor, roots: Sequence[int], tree: TreeConfig
) -> list[DraftTree]:
    """Draft what may follow each root.

    Args:
        layer: The head; it must fit the target.
        target: Lends its rotary tables.
        ids: The text [T].
        features: The target's [T, F], at least up to the last root.
        roots: Ascending places in the text, at least 1: the tree's root is ids[place].
        tree: The caller keeps each root plus `tree.depth` within the target's positions.
    """
    if not roots:
        return []
    text = _Text(layer, target.rotary, ids, features, roots[-1])
    trees: list[DraftTree] = []
    for begin in range(0, len(roots), PLACES_AT_ONCE):
        trees += text.grow(roots[begin : begin + PLACES_AT_ONCE], tree)
    return trees


class _Text:
    """Stable keys and values of one text; pair j is (token j + 1, feature j) at position j."""

    def __init__(
        self, layer: HeadLayer, rotary: tuple[Tensor, Tensor], ids: Sequence[int], features: Tensor, num_pairs: int
    ) -> None:
        self._layer, self._ids = layer, ids
        self._cos, self._sin = rotary
        self._num_heads, self._num_kv = layer.shape.num_heads, layer.shape.num_kv_heads
        tokens = torch.tensor(ids[1 : num_pairs + 1], device=features.device)
        heads, self._residual = layer.begin(tokens, layer.project(features[:num_pairs]))
        self._query, self._k, self._v = self._split(heads, torch.arange(num_pairs, device=features.device))

    def grow(self, roots: Sequence[int], tree: TreeConfig) -> list[DraftTree]:
        """Trees below these roots."""
        device = self._k.device
        last = torch.tensor(roots, device=device) - 1  # the pair that holds the root
        num_stable = roots[-1]
        seen = torch.arange(num_stable, device=device) <= last[:, None, None]  # [G, 1, S]
        places = _Places(self, last, seen, len(roots), tree)
        hidden, log_probs = self._layer.finish(places.attend(self._query[last][:, None], seen), self._residual[last])
        return grow(
            [self._ids[root] for root in roots],
            hidden,
            log_probs,
            places.expand,
            draft_to_target=self._layer.draft_to_target,
            tree=tree,
        )

    def _split(self, heads: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries [A, nh, hd] and keys [A, nkv, hd], and values [A, nkv, hd] of joint heads."""
        num_rope = self._num_heads + self._num_kv
        rotated = rotate(heads[:, :num_rope], self._cos[positions, None], self._sin[positions, None])
        return rotated[:, : self._num_heads], rotated[:, self._num_heads :], heads[:, num_rope:]


class _Places:
    """Keys and values of the places that grow together: the text's, then the tree's own rows."""

    def __init__(self, text: _Text, last: Tensor, seen: Tensor, num_places: int, tree: TreeConfig) -> None:
        self._text, self._last, self._seen = text, last, seen
        self._num_stable = seen.shape[-1]
        width = min(tree.top_k, text._layer.shape.draft_vocab_size)
        size = (num_places, text._num_kv, self._num_stable + width * (tree.depth - 1), text._layer.shape.head_dim)
        self._k, self._v = text._k.new_empty(size), text._v.new_empty(size)
        self._k[:, :, : self._num_stable] = text._k[: self._num_stable].transpose(0, 1)
        self._v[:, :, : self._num_stable] = text._v[: self._num_stable].transpose(0, 1)

    def attend(self, query: Tensor, seen: Tensor) -> Tensor:
        """Queries [G, W, nh, hd] over the rows they see [G, W, S + C] to outputs [G * W, nh * hd]."""
        end = seen.shape[-1]
        mask = additive_mask(seen, self._text._num_heads // self._text._num_kv, query.dtype)
        return attend(query, self._k[:, :, :end], self._v[:, :, :end], mask).flatten(0, 1)

    def expand(self, tokens: Tensor, hidden: Tensor, ancestors: Tensor) -> tuple[Tensor, Tensor]:
        """See `beam.Expand`."""
        num_places, width, columns = ancestors.shape
        layer = self._text._layer
        heads, residual = layer.begin(tokens.flatten(), hidden.flatten(0, 1))
        positions = (self._last + columns // width).repeat_interleave(width)
        query, k, v = (part.unflatten(0, (num_places, width)) for part in self._text._split(heads, positions))
        end = self._num_stable + columns
        self._k[:, :, end - width : end] = k.transpose(1, 2)
        self._v[:, :, end - width : end] = v.transpose(1, 2)
        seen = torch.cat([self._seen.expand(-1, width, -1), ancestors], 2)
        output, log_probs = layer.finish(self.attend(query, seen), residual)
        return output.unflatten(0, (num_places, width)), log_probs.unflatten(0, (num_places, width))
