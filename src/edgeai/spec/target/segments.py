"""Batched target passes in torch: draft trees and prompt chunks of many sequences in one pass.

The weights are read once for all tokens, and reading them dominates the cost of a pass over few tokens. All layers
except attention run on the concatenated tokens. Attention runs per sequence over its own keys only: its cost does not
depend on the longest text, and its results do not depend on the other sequences.

Shapes: M tokens in all, n of one segment, L committed plus new tokens of its sequence, nh/nkv query/key heads,
g = nh / nkv, hd head width, V vocabulary, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeai.spec.target.decoder import Decoder
from edgeai.spec.target.kv_cache import KVCache
from edgeai.spec.target.protocol import Segment, SegmentResult


@torch.inference_mode()
def run_segments(
    decoder: Decoder, segments: Sequence[Segment], cache: KVCache, aux_layers: tuple[int, ...]
) -> list[SegmentResult]:
    """Run all segments through the decoder in one pass.

    Args:
        decoder: Decoder of the target.
        segments: Segments of different sequences.
        cache: Cache with the committed texts; new rows are written after them.
        aux_layers: Layers whose input states are the features; empty for none.
    """
    device = decoder.device
    sizes = [segment.tokens.shape[0] for segment in segments]
    starts = [cache.lengths[segment.row] for segment in segments]
    offsets = [0, *accumulate(sizes)]
    tokens = torch.cat([segment.tokens for segment in segments]).to(device)
    positions = torch.cat([s.depths + start for s, start in zip(segments, starts, strict=True)]).to(device)
    mix = _Attention(decoder, segments, cache, starts, offsets)
    hidden, features = decoder.run(tokens[None], positions[None], mix, aux_layers)
    wanted = [range(size)[segment.logits] for segment, size in zip(segments, sizes, strict=True)]
    rows = [begin + row for begin, part in zip(offsets, wanted, strict=False) for row in part]
    if len(rows) == len(tokens):
        logits = decoder.logits(hidden[0])
    else:
        logits = decoder.logits(hidden[0, torch.tensor(rows, dtype=torch.long, device=device)])
    return [
        SegmentResult(part_logits, part_features)
        for part_logits, part_features in zip(
            logits.split([len(part) for part in wanted]), features[0].split(sizes), strict=True
        )
    ]


class _Attention:
    """`decoder.Mix` for each sequence separately."""

    def __init__(
        self,
        decoder: Decoder,
        segments: Sequence[Segment],
        cache: KVCache,
        starts: Sequence[int],
        offsets: Sequence[int],
    ) -> None:
        shape, device = decoder.shape, decoder.device
        self._cache, self._num_kv = cache, shape.num_kv_heads
        self._group = group = shape.num_heads // shape.num_kv_heads
        sizes = [end - begin for begin, end in pairwise(offsets)]
        self._rows = torch.tensor(
            [segment.row for segment, size in zip(segments, sizes, strict=True) for _ in range(size)], device=device
        )
        self._places = torch.tensor(
            [row for start, size in zip(starts, sizes, strict=True) for row in range(start, start + size)],
            device=device,
        )
        # query rows are ordered (token, head of the group), hence the factor g
        self._parts = [
            (segment.row, start + size, offset * group, (offset + size) * group, _mask(segment, start, group, decoder))
            for segment, start, offset, size in zip(segments, starts, offsets, sizes, strict=False)
        ]

    def __call__(self, index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `decoder.Mix`; B = 1, T = M."""
        keys, values = self._cache.k[index], self._cache.v[index]
        keys[self._rows, :, self._places] = k[0]
        values[self._rows, :, self._places] = v[0]
        num_tokens, width = q.shape[1], q.shape[3]
        # [1, nkv, M * g, hd]
        folded = q[0].unflatten(1, (self._num_kv, self._group)).transpose(0, 1).reshape(1, self._num_kv, -1, width)
        parts = [
            F.scaled_dot_product_attention(
                folded[:, :, begin:stop], keys[row : row + 1, :, :end], values[row : row + 1, :, :end], attn_mask=mask
            )
            for row, end, begin, stop, mask in self._parts
        ]
        out = parts[0] if len(parts) == 1 else torch.cat(parts, 2)
        return out.view(self._num_kv, num_tokens, -1, width).transpose(0, 1).reshape(1, num_tokens, -1)


def _mask(segment: Segment, start: int, group: int, decoder: Decoder) -> Tensor | None:
    """Return the additive mask [1, 1, n * g, L]; None if all rows are visible."""
    size = segment.tokens.shape[0]
    if size == 1:
        return None
    mask = torch.zeros(size, start + size, dtype=decoder.dtype)
    mask[:, start:].masked_fill_(~segment.ancestors, float("-inf"))
    return mask.repeat_interleave(group, 0)[None, None].to(decoder.device)
