"""Batched EAGLE-3 drafting: one head drafts for many sequences at once.

Each sequence gets the tree that `edgeai.spec.draft.eagle3` would propose for it alone.

Shapes: G sequences, A newly confirmed pairs of all sequences, W nodes of one tree level, C columns of tree keys so far,
H hidden, F target features, nh/nkv query/key heads, hd head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.dynamic_tree import grow
from edgeai.spec.draft.eagle3 import HeadLayer, head_rotary
from edgeai.spec.draft.native_eagle3 import as_floats
from edgeai.spec.draft.native_head import Array, NativeHead, NewPairs
from edgeai.spec.draft.tree import DraftTree
from edgeai.spec.target.attention import additive_mask, attend, rotate
from edgeai.spec.target.protocol import Target

_FEED_ROWS = 64  # features collected until the next draft; more justify a separate pass of the head


class Eagle3Pool:
    """One EAGLE-3 head for all sequences, with its own KV cache per sequence; implements `DraftPool`.

    Pair j of a text is (token j + 1, feature j) at position j, as in `edgeai.spec.draft.eagle3`.

    Args:
        layer: The head's decoder layer; must fit the target.
        target: The target, for its rotary tables, number format and device.
        num_rows: Number of sequences.
        capacity: Most tokens per sequence.
        max_tree: Upper bound of the depth and width of requested trees.
    """

    reads_features = True

    def __init__(self, layer: HeadLayer, target: Target, *, num_rows: int, capacity: int, max_tree: TreeConfig) -> None:
        shape = layer.shape
        self.num_rows, self._layer = num_rows, layer
        self._cos, self._sin = head_rotary(shape, target)
        self._repeats = shape.num_heads // shape.num_kv_heads
        size = (num_rows, shape.num_kv_heads, capacity + max_tree.depth * max_tree.top_k, shape.head_dim)
        self._k, self._v = (torch.zeros(size, dtype=target.dtype, device=target.device) for _ in range(2))
        self._num_stable = [0] * num_rows
        self._waiting: list[list[Tensor]] = [[] for _ in range(num_rows)]  # features that the head has not processed

    def known(self, row: int) -> int:
        """See `DraftPool`."""
        return self._num_stable[row]

    def begin(self, row: int, known: int) -> None:
        """See `DraftPool`."""
        self._num_stable[row], self._waiting[row] = known, []

    def copy(self, source: int, row: int, known: int) -> None:
        """See `DraftPool`."""
        for part in (self._k, self._v):
            part[row, :, :known] = part[source, :, :known]
        self.begin(row, known)

    @torch.inference_mode()
    def feed(self, row: int, text: Sequence[int], features: Tensor) -> None:
        """See `DraftPool`."""
        self._waiting[row].append(features.clone())  # a view would keep the tensor of the whole pass alive
        if sum(part.shape[0] for part in self._waiting[row]) >= _FEED_ROWS:
            self._confirm([row], [text[:-1]])  # the last pair waits: the next tree starts from its query

    @torch.inference_mode()
    def propose(self, rows: Sequence[int], texts: Sequence[Sequence[int]], tree: TreeConfig) -> list[DraftTree]:
        """See `DraftPool`."""
        query, residual, counts = self._confirm(rows, texts)
        last = torch.tensor([end - 1 for end in accumulate(counts)], device=query.device)
        ends = [self._num_stable[row] for row in rows]
        query, residual = query[last, None], residual[last]  # [G, 1, nh, hd], [G, H]
        attended = self._attend(rows, query, ends, [None] * len(rows))
        hidden, log_probs = self._layer.finish(attended, residual)

        def expand(tokens: Tensor, hidden: Tensor, ancestors: Tensor) -> tuple[Tensor, Tensor]:
            return self._expand(rows, ends, tokens, hidden, ancestors)

        roots = [text[-1] for text in texts]
        targets = self._layer.draft_to_target
        return grow(roots, hidden, log_probs, expand, draft_to_target=targets, tree=tree)

    def _confirm(self, rows: Sequence[int], texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, list[int]]:
        """Run the head on the waiting pairs of these rows.

        A feature stays waiting while its next token is unknown.

        Returns:
            Queries [A, nh, hd], residuals [A, H] and the number of pairs of each row.
        """
        features, tokens, places, counts = [], list[int](), list[int](), []
        for row, text in zip(rows, texts, strict=True):
            waiting = torch.cat(self._waiting[row])
            begin = self._num_stable[row]
            count = min(waiting.shape[0], len(text) - 1 - begin)
            features.append(waiting[:count])
            tokens += text[begin + 1 : begin + 1 + count]
            places += range(begin, begin + count)
            counts.append(count)
            self._waiting[row] = [waiting[count:]] if count < waiting.shape[0] else []
            self._num_stable[row] = begin + count
        device = self._k.device
        heads, residual = self._layer.begin(
            torch.tensor(tokens, device=device), self._layer.project(torch.cat(features))
        )
        owners = torch.tensor([row for row, count in zip(rows, counts, strict=True) for _ in range(count)])
        positions = torch.tensor(places, device=device)
        return self._write(heads, owners.to(device), positions, positions), residual, counts

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


class NativePool:
    """As `Eagle3Pool` on the native runtime: all trees of a cycle in one call, equal to the bit to those drafted alone.

    Args:
        head: Packed head.
        num_rows: Number of sequences.
        capacity: Most tokens per sequence.
        max_tree: Upper bound of the depth and width of requested trees.
    """

    reads_features = True

    def __init__(self, head: NativeHead, *, num_rows: int, capacity: int, max_tree: TreeConfig) -> None:
        self.num_rows, self._head = num_rows, head
        self._cache = head.new_cache(capacity + max_tree.depth * max_tree.top_k, num_rows)
        self._waiting: list[list[Array]] = [[] for _ in range(num_rows)]  # features that the head has not processed

    def known(self, row: int) -> int:
        """See `DraftPool`."""
        return self._cache.lengths[row]

    def begin(self, row: int, known: int) -> None:
        """See `DraftPool`."""
        self._cache.lengths[row], self._waiting[row] = known, []

    def copy(self, source: int, row: int, known: int) -> None:
        """See `DraftPool`."""
        self._cache.copy(source, row, known)
        self._waiting[row] = []

    def feed(self, row: int, text: Sequence[int], features: Tensor) -> None:
        """See `DraftPool`."""
        self._waiting[row].append(as_floats(features).copy())  # a view would keep the array of the whole pass alive
        if sum(map(len, self._waiting[row])) >= _FEED_ROWS:
            self._head.add(self._cache, self._take(row, text[:-1]))  # the next tree needs the last pair

    def propose(self, rows: Sequence[int], texts: Sequence[Sequence[int]], tree: TreeConfig) -> list[DraftTree]:
        """See `DraftPool`."""
        pairs = [self._take(row, text) for row, text in zip(rows, texts, strict=True)]
        return self._head.propose(self._cache, pairs, tree)

    def _take(self, row: int, text: Sequence[int]) -> NewPairs:
        """Return the pairs whose tokens are known; a feature stays waiting while its next token is unknown."""
        waiting, begin = np.concatenate(self._waiting[row]), self._cache.lengths[row]
        count = min(len(waiting), len(text) - 1 - begin)
        self._waiting[row] = [waiting[count:]] if count < len(waiting) else []
        return NewPairs(row, text[begin + 1 : begin + 1 + count], waiting[:count])
