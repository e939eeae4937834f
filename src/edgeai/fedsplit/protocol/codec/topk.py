"""Top-k sparsification: the k values of each sample with the largest magnitude.

Legend: b samples, q values per sample, k kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgeai.fedsplit.config.codec import RandtopkConfig, TopkConfig
from edgeai.fedsplit.protocol.codec.bits import pack_bits, unpack_bits
from edgeai.fedsplit.protocol.codec.codec import Packed
from edgeai.fedsplit.protocol.codec.sizes import index_bits, num_kept


class TopK:
    """Keeps k of q values per sample; the others are decoded as zeros.

    Args:
        cfg: Number or share of values kept.
    """

    def __init__(self, cfg: TopkConfig | RandtopkConfig) -> None:
        self._cfg = cfg

    def select(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the indices of the kept values, int64 [b, k]."""
        flat = x.flatten(1)
        return flat.abs().topk(num_kept(self._cfg, flat.shape[1]), dim=1, sorted=False).indices

    def pack(self, x: Tensor, generator: torch.Generator) -> Packed:
        """Return values float32 [b, k], with side information `index`, bit-packed at ceil(log2 q) bits each."""
        return self.pack_at(x, self.select(x, generator))

    def pack_at(self, x: Tensor, index: Tensor) -> Packed:
        """Pack the values at `index` [b, k]."""
        side = {"index": pack_bits(index, index_bits(x[0].numel()))}
        return Packed(gather(x, index), tuple(x.shape), side)

    def index_of(self, packed: Packed) -> Tensor:
        """Return the indices of the packed values, int64 [b, k]."""
        bits = index_bits(packed.num_values)
        index = unpack_bits(packed.side["index"], bits, packed.payload.numel())
        return index.view(packed.payload.shape).to(torch.int64)

    def unpack(self, packed: Packed) -> Tensor:
        """Return float32 [b, ...]."""
        return scatter(packed.payload, self.index_of(packed), packed.shape)


def gather(x: Tensor, index: Tensor) -> Tensor:
    """Return the values of x [b, ...] at `index` [b, k], as [b, k]."""
    return x.flatten(1).gather(1, index)


def scatter(values: Tensor, index: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a tensor of zeros [b, ...] with `values` [b, k] at `index` [b, k]."""
    num_values = torch.Size(shape[1:]).numel()
    return values.new_zeros(shape[0], num_values).scatter_(1, index, values).view(shape)
