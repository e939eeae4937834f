"""The k largest values of each sample by magnitude.

Legend: b samples, q values a sample, k kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgeai.fedsplit.config.codec import RandtopkConfig, TopkConfig
from edgeai.fedsplit.protocol.codec.bits import pack_bits, unpack_bits
from edgeai.fedsplit.protocol.codec.codec import Packed
from edgeai.fedsplit.protocol.codec.sizes import index_bits, num_kept


class TopK:
    """Keeps k of q values a sample; the rest arrives as zeros.

    Args:
        cfg: How many are kept.
    """

    def __init__(self, cfg: TopkConfig | RandtopkConfig) -> None:
        self._cfg = cfg

    def select(self, x: Tensor, chance: torch.Generator) -> Tensor:
        """Which values are kept: int64 [b, k]."""
        flat = x.flatten(1)
        return flat.abs().topk(num_kept(self._cfg, flat.shape[1]), dim=1, sorted=False).indices

    def pack(self, x: Tensor, chance: torch.Generator) -> Packed:
        """Payload: float32 [b, k]. Side: `index`, ceil(log2 q) bits each without gaps."""
        return self.pack_at(x, self.select(x, chance))

    def pack_at(self, x: Tensor, index: Tensor) -> Packed:
        """Packs the values at index [b, k]."""
        side = {"index": pack_bits(index, index_bits(x[0].numel()))}
        return Packed(gather(x, index), tuple(x.shape), side)

    def index_of(self, packed: Packed) -> Tensor:
        """Which values were kept: int64 [b, k]."""
        bits = index_bits(packed.num_values)
        index = unpack_bits(packed.side["index"], bits, packed.payload.numel())
        return index.view(packed.payload.shape).to(torch.int64)

    def unpack(self, packed: Packed) -> Tensor:
        """float32 [b, ...]."""
        return scatter(packed.payload, self.index_of(packed), packed.shape)


def gather(x: Tensor, index: Tensor) -> Tensor:
    """The values of x [b, ...] at index [b, k]: [b, k]."""
    return x.flatten(1).gather(1, index)


def scatter(values: Tensor, index: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Values [b, k] at their places in a tensor of zeros [b, ...]."""
    num_values = torch.Size(shape[1:]).numel()
    return values.new_zeros(shape[0], num_values).scatter_(1, index, values).view(shape)
