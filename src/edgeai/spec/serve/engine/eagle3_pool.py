"""Batched EAGLE-3 drafting: one head drafts for many sequences at once.

Each sequence gets the tree that `edgeai.spec.draft.eagle3` would propose for it alone.

Shapes: G sequences, A newly confirmed pairs of all sequences, W nodes of one tree level, C columns of tree keys so far,
H hidden, F target features, nh/nkv query/key heads, hd head width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.dynamic_tree import grow
from edgeai.spec.draft.eagle3 import HeadLayer, head_rotary
from edgeai.spec.draft.native_head import NativeHead, NewPairs
from edgeai.spec.draft.tree import DraftTree
from edgeai.spec.target.attention import additive_mask, attend, rotate
from edgeai.spec.target.protocol import Target

_FEED_ROWS = 64  # features collected until the next draft; more justify a separate pass of the head


class _HeadPool(ABC):
    """Pairs of a head that wait until the token after their feature is known.

    Pair j of a text is (token j + 1, feature j) at position j, as in `edgeai.spec.draft.eagle3`.

    Args:
        lengths: Pairs in the head's cache, by row; changed in place.
    """

    reads_features = True

    def __init__(self, lengths: list[int]) -> None:
        self.num_rows, self._lengths = len(lengths), lengths
        self._waiting: list[list[Tensor]] = [[] for _ in lengths]  # features that the head has not processed
        self._num_waiting = [0] * len(lengths)

    def known(self, row: int) -> int:
        """See `DraftPool`."""
        return self._lengths[row]

    def begin(self, row: int, known: int) -> None:
        """See `DraftPool`."""
        self._lengths[row], self._waiting[row], self._num_waiting[row] = known, [], 0

    @torch.inference_mode()
    def feed(self, row: int, text: Sequence[int], features: Tensor) -> None:
        """See `DraftPool`."""
        self._waiting[row].append(features.clone())  # a view would keep the tensor of the whole pass alive
        self._num_waiting[row] += len(features)
        if self._num_waiting[row] >= _FEED_ROWS:
            self._add(self._take([row], [text[:-1]]))  # the next tree needs the last pair

    def _take(self, rows: Sequence[int], texts: Sequence[Sequence[int]]) -> list[NewPairs]:
        """Return the waiting pairs of rows; a feature stays waiting while its next token is unknown."""
        pairs = []
        for row, text in zip(rows, texts, strict=True):
            waiting, begin = torch.cat(self._waiting[row]), self._lengths[row]
            count = min(len(waiting), len(text) - 1 - begin)
            self._waiting[row] = [waiting[count:]] if count < len(waiting) else []
            self._num_waiting[row] = len(waiting) - count
            pairs.append(NewPairs(row, text[begin + 1 : begin + 1 + count], waiting[:count]))
        return pairs

    @abstractmethod
    def _add(self, pairs: Sequence[NewPairs]) -> object:
        """Run the head on pairs of different rows, and add them to its cache and to `_lengths`."""


class Eagle3Pool(_HeadPool):
    """One EAGLE-3 head for all sequences, with its own KV cache per sequence; implements `DraftPool`.

    Args:
        layer: The head's decoder layer; must fit the target.
        target: The target, for its rotary tables, number format and device.
        num_rows: Number of sequences.
        capacity: Most tokens per sequence.
        max_tree: Upper bound of the depth and width of requested trees.
    """

    def __init__(self, layer: HeadLayer, target: Target, *, num_rows: int, capacity: int, max_tree: TreeConfig) -> None:
        shape = layer.shape
        super().__init__([0] * num_rows)
        self._layer = layer
        self._cos, self._sin = head_rotary(shape, target)
        self._repeats = shape.num_heads // shape.num_kv_heads
        size = (num_rows, shape.num_kv_heads, capacity + max_tree.depth * max_tree.top_k, shape.head_dim)
        self._k, self._v = (torch.zeros(size, dtype=target.dtype, device=target.device) for _ in range(2))

    def copy(self, source: int, row: int, known: int) -> None:
        """See `DraftPool`."""
        for part in (self._k, self._v):
            part[row, :, :known] = part[source, :, :known]
        self.begin(row, known)

    @torch.inference_mode()
    def propose(self, rows: Sequence[int], texts: Sequence[Sequence[int]], tree: TreeConfig) -> list[DraftTree]:
        """See `DraftPool`."""
        pairs = self._take(rows, texts)
        query, residual = self._add(pairs)
        last = torch.tensor([end - 1 for end in accumulate(len(new.tokens) for new in pairs)], device=query.device)
        ends = [self._lengths[row] for row in rows]
        query, residual = query[last, None], residual[last]  # [G, 1, nh, hd], [G, H]
        attended = self._attend(rows, query, ends, [None] * len(rows))
        hidden, log_probs = self._layer.finish(attended, residual)

        def expand(tokens: Tensor, hidden: Tensor, ancestors: Tensor) -> tuple[Tensor, Tensor]:
            return self._expand(rows, ends, tokens, hidden, ancestors)

        roots = [text[-1] for text in texts]
        targets = self._layer.draft_to_target
        return grow(roots, hidden, log_probs, expand, draft_to_target=targets, tree=tree)

    def _add(self, pairs: Sequence[NewPairs]) -> tuple[Tensor, Tensor]:
        """Return the queries [A, nh, hd] and residuals [A, H] of the pairs."""
        device = self._k.device
        tokens = torch.tensor([token for new in pairs for token in new.tokens], device=device)
        heads, residual = self._layer.begin(tokens, self._layer.project(torch.cat([new.features for new in pairs])))
        places, owners = list[int](), list[int]()
        for new in pairs:
            begin, count = self._lengths[new.row], len(new.tokens)
            self._lengths[new.row] = begin + count
            places += range(begin, begin + count)
            owners += [new.row] * count
        positions = torch.tensor(places, device=device)
        return self._write(heads, torch.tensor(owners, device=device), positions, positions), residual

    def _expand(
        self, rows: Sequence[int], ends: Sequence[int], tokens: Tensor, hidden: Tensor, ancestors: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `dynamic_tree.Expand`. Keys and values of the level follow those of the text and of earlier levels."""
        num_rows, width, columns = ancestors.shape
        device = tokens.device
        heads, residual = self._layer.begin(tokens.flatten(), hidden.flatten(0, 1))
        stable = torch.tensor(ends, device=device)
        positions = (stable - 1 + columns // width).repeat_interleave(width)
        places = (stable + columns - width)[:, None] + torch.arange(width, device=device)
        owners = torch.tensor(rows, device=device).repeat_interleave(width)
        query = self._write(heads, owners, places.flatten(), positions).unflatten(0, (num_rows, width))
        masks = []
        for end, sees in zip(ends, ancestors, strict=True):
            seen = torch.cat([sees.new_ones(width, end), sees], 1)[None]
            masks.append(additive_mask(seen, self._repeats, query.dtype))
        attended = self._attend(rows, query, [end + columns for end in ends], masks)
        output, log_probs = self._layer.finish(attended, residual)
        return output.unflatten(0, (num_rows, width)), log_probs.unflatten(0, (num_rows, width))

    def _attend(
        self, rows: Sequence[int], query: Tensor, ends: Sequence[int], masks: Sequence[Tensor | None]
    ) -> Tensor:
        """Attend with queries [G, W, nh, hd] to the first `ends` keys of each row; returns [G * W, nh * hd]."""
        parts = [
            attend(query[index : index + 1], self._k[row : row + 1, :, :end], self._v[row : row + 1, :, :end], mask)
            for index, (row, end, mask) in enumerate(zip(rows, ends, masks, strict=True))
        ]
        return torch.cat(parts).flatten(0, 1)

    def _write(self, heads: Tensor, owners: Tensor, places: Tensor, positions: Tensor) -> Tensor:
        """Store keys and values [A, nkv, hd] at (owner, place); returns the queries [A, nh, hd]."""
        num_heads = self._layer.shape.num_heads
        num_rope = num_heads + self._layer.shape.num_kv_heads
        rotated = rotate(heads[:, :num_rope], self._cos[positions, None], self._sin[positions, None])
        self._k[owners, :, places] = rotated[:, num_heads:]
        self._v[owners, :, places] = heads[:, num_rope:]
        return rotated[:, :num_heads]


class NativePool(_HeadPool):
    """As `Eagle3Pool` on the native runtime: all trees of a cycle in one call, equal to the bit to those drafted alone.

    Args:
        head: Packed head.
        num_rows: Number of sequences.
        capacity: Most tokens per sequence.
        max_tree: Upper bound of the depth and width of requested trees.
    """

    def __init__(self, head: NativeHead, *, num_rows: int, capacity: int, max_tree: TreeConfig) -> None:
        self._head = head
        self._cache = head.new_cache(capacity + max_tree.depth * max_tree.top_k, num_rows)
        super().__init__(self._cache.lengths)

    def copy(self, source: int, row: int, known: int) -> None:
        """See `DraftPool`."""
        self._cache.copy(source, row, known)
        self.begin(row, known)

    def propose(self, rows: Sequence[int], texts: Sequence[Sequence[int]], tree: TreeConfig) -> list[DraftTree]:
        """See `DraftPool`."""
        return self._head.propose(self._cache, self._take(rows, texts), tree)

    def _add(self, pairs: Sequence[NewPairs]) -> None:
        for new in pairs:
            self._head.add(self._cache, new)
