"""Uniform b-bit quantization (stochastic rounding as in QSGD, Alistarh et al. 2017).

Differs from QSGD: the range is minimum to maximum, not 0 to the norm, because smashed data after ReLU have one sign.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgeai.fedsplit.protocol.codec.bits import pack_bits, unpack_bits
from edgeai.fedsplit.protocol.codec.codec import Packed, uniform_noise


class Uniform:
    """Levels low + step * code, code in 0 … 2**bits - 1.

    Args:
        bits: 1 … 16.
        per_channel: Use one range per index of dimension 1; otherwise one for the tensor.
        stochastic: Round up with probability equal to the fractional part, which is unbiased; otherwise to the nearest.
    """

    def __init__(self, *, bits: int, per_channel: bool, stochastic: bool) -> None:
        self._bits, self._per_channel, self._stochastic = bits, per_channel, stochastic

    def pack(self, x: Tensor, generator: torch.Generator) -> Packed:
        """Return bit-packed codes, with side information `range` float32 [ranges, 2]: minimum and step."""
        low, high = self._range(x)
        step = (high - low) / (2**self._bits - 1)
        scaled = (x - low) / torch.where(step > 0, step, 1.0)
        scaled = scaled + (uniform_noise(x, generator) if self._stochastic else 0.5)
        codes = scaled.to(torch.int32).clamp_(0, 2**self._bits - 1)  # never negative: truncation rounds down
        ranges = torch.stack([low.reshape(-1), step.reshape(-1)], dim=1)
        return Packed(pack_bits(codes, self._bits), tuple(x.shape), {"range": ranges})

    def unpack(self, packed: Packed) -> Tensor:
        """Return float32 [b, ...]."""
        shape = packed.shape
        codes = unpack_bits(packed.payload, self._bits, shape[0] * packed.num_values).view(shape)
        low, step = (part.view(self._broadcast(shape)) for part in packed.side["range"].unbind(dim=1))
        return codes * step + low

    def _range(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return minimum and maximum, shaped to broadcast against x."""
        if not self._per_channel:
            low, high = torch.aminmax(x)
        else:
            low, high = torch.aminmax(x.transpose(0, 1).reshape(x.shape[1], -1), dim=1)
        shape = self._broadcast(x.shape)
        return low.view(shape), high.view(shape)

    def _broadcast(self, shape: tuple[int, ...]) -> list[int]:
        return [shape[1] if self._per_channel and dim == 1 else 1 for dim in range(len(shape))]
