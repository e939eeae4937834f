"""One direction of a link: its codec, and what is left of a codec for a gradient that top-k has restricted.

Legend: b samples, q values a sample, k of them kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgeai.fedsplit.config.codec import Direction, FedliteConfig
from edgeai.fedsplit.protocol.codec.build import build_codec
from edgeai.fedsplit.protocol.codec.codec import Packed
from edgeai.fedsplit.protocol.codec.sizes import Way, check_direction
from edgeai.fedsplit.protocol.codec.topk import TopK, gather, scatter


class Lane:
    """Packs and unpacks the tensors of one direction; remembers nothing of them.

    Args:
        cfg: The codec.
        way: Names the direction to people.

    Attributes:
        codec: None where tensors cross as they are.
        sparse: The codec, if it is one that keeps some values and drops the rest.
        lam: Strength of FedLite's gradient correction; 0 for other codecs.
    """

    def __init__(self, cfg: Direction, way: Way) -> None:
        self._cfg, self._way = cfg, way
        self._fitting: set[int] = set()
        self.codec = build_codec(cfg)
        self.sparse = self.codec if isinstance(self.codec, TopK) else None
        self.lam = cfg.lam if isinstance(cfg, FedliteConfig) else 0.0

    def codes(self, x: Tensor, index: Tensor | None = None) -> bool:
        """Whether this tensor is packed at all: floats of at least two dimensions, unless there is nothing to do."""
        has_work = self.codec is not None or index is not None
        return has_work and x.dim() >= 2 and x.is_floating_point() and x.numel() > 0

    def pack(self, x: Tensor, chance: torch.Generator, index: Tensor | None = None) -> Packed:
        """Packs a tensor.

        Args:
            x: [b, ...]; of other precision than float32, it arrives as float32 all the same.
            chance: For whatever is left to chance.
            index: Send the values at these places only, [b, k], which the other end knows.

        Raises:
            UsageError: The codec does not fit the shape.
        """
        x = x.to(torch.float32)
        if index is not None:
            x = gather(x, index)
            if self.codec is None or self.sparse is not None:  # these values are all that top-k would have kept
                return Packed(x, tuple(x.shape))
        assert self.codec is not None
        self._check(x[0].numel())
        return self.codec.pack(x, chance)

    def pack_kept(self, x: Tensor, chance: torch.Generator) -> tuple[Tensor, Packed]:
        """Packs by top-k, and says which values were kept: int64 [b, k].

        Raises:
            UsageError: The codec does not fit the shape.
        """
        assert self.sparse is not None
        self._check(x[0].numel())
        x = x.to(torch.float32)
        index = self.sparse.select(x, chance)
        return index, self.sparse.pack_at(x, index)

    def unpack(self, packed: Packed, index: Tensor | None = None) -> Tensor:
        """What arrives: float32 [b, ...], zeros outside of index."""
        if index is None:
            assert self.codec is not None
            return self.codec.unpack(packed)
        if self.codec is None or self.sparse is not None:
            return scatter(packed.payload, index, packed.shape)
        values = Packed(packed.payload, tuple(index.shape), packed.side)
        return scatter(self.codec.unpack(values), index, packed.shape)

    def _check(self, num_values: int) -> None:
        if num_values not in self._fitting:
            check_direction(self._cfg, num_values, self._way)
            self._fitting.add(num_values)
