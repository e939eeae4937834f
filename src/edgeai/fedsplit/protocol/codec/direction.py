"""Codec of one direction of a link, with gradients restricted by top-k of the other direction.

Legend: b samples, q values per sample, k of them kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgeai.fedsplit.config.codec import Direction, FedliteConfig
from edgeai.fedsplit.protocol.codec.build import build_codec
from edgeai.fedsplit.protocol.codec.codec import Packed
from edgeai.fedsplit.protocol.codec.sizes import Way, check_direction
from edgeai.fedsplit.protocol.codec.topk import TopK, gather, scatter


class DirectionCodec:
    """Packs and unpacks the tensors of one direction, without state.

    Args:
        cfg: Config of the codec.
        way: Name of the direction in error messages.

    Attributes:
        codec: The codec; None if tensors are sent unchanged.
        sparse: The codec if it is top-k, otherwise None.
        lam: Strength of FedLite's gradient correction; 0 for other codecs.
    """

    def __init__(self, cfg: Direction, way: Way) -> None:
        self._cfg, self._way = cfg, way
        self._fitting: set[int] = set()
        self.codec = build_codec(cfg)
        self.sparse = self.codec if isinstance(self.codec, TopK) else None
        self.lam = cfg.lam if isinstance(cfg, FedliteConfig) else 0.0

    def codes(self, x: Tensor, index: Tensor | None = None) -> bool:
        """Return whether a tensor is packed: floats of at least 2 dimensions, if there is a codec or a restriction."""
        has_work = self.codec is not None or index is not None
        return has_work and x.dim() >= 2 and x.is_floating_point() and x.numel() > 0

    def pack(self, x: Tensor, generator: torch.Generator, index: Tensor | None = None) -> Packed:
        """Pack a tensor.

        Args:
            x: Tensor [b, ...]. It is decoded as float32, whatever its precision.
            generator: Generator of the codec's random draws.
            index: Indices [b, k] known to the other end; only these values are sent.

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
        return self.codec.pack(x, generator)

    def pack_kept(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Packed]:
        """Pack by top-k; return the indices of the kept values, int64 [b, k], and the packed tensor.

        Raises:
            UsageError: The codec does not fit the shape.
        """
        assert self.sparse is not None
        self._check(x[0].numel())
        x = x.to(torch.float32)
        index = self.sparse.select(x, generator)
        return index, self.sparse.pack_at(x, index)

    def unpack(self, packed: Packed, index: Tensor | None = None) -> Tensor:
        """Return the decoded tensor, float32 [b, ...], with zeros outside `index`."""
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
