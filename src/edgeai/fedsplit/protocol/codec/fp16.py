"""Half-precision codec."""

from __future__ import annotations

import torch
from torch import Tensor

from edgeai.fedsplit.protocol.codec.codec import Packed


class Fp16:
    """Rounds to the nearest float16: relative error up to 2**-11 for magnitudes from 6.1e-5 to 65504."""

    def pack(self, x: Tensor, generator: torch.Generator) -> Packed:
        """Return a payload float16 [b, ...]."""
        return Packed(x.to(torch.float16), tuple(x.shape))

    def unpack(self, packed: Packed) -> Tensor:
        """Return float32 [b, ...]."""
        return packed.payload.to(torch.float32)
