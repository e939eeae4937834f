"""Codec interface: one tensor to a payload with side information, and back.

Legend: b samples, q values a sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A tensor on the wire.

    Attributes:
        payload: Values or codes.
        shape: Shape of the tensor, [b, ...].
        side: Side information for decoding: ranges, indices, codebooks.
    """

    payload: Tensor
    shape: tuple[int, ...]
    side: dict[str, Tensor] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """Bytes of payload and side information."""
        return sum(part.numel() * part.element_size() for part in (self.payload, *self.side.values()))

    @property
    def num_values(self) -> int:
        """Values per sample, q."""
        return math.prod(self.shape[1:])


class Codec(Protocol):
    """Codec of one direction. It has settings only; state across batches is kept by the channel."""

    def pack(self, x: Tensor, generator: torch.Generator) -> Packed:
        """Pack float values [b, ...], with random draws from a CPU generator."""

    def unpack(self, packed: Packed) -> Tensor:
        """Return the decoded tensor, float32 [b, ...]."""


def uniform_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return uniform numbers in [0, 1) of the shape of x, the same on every device."""
    return torch.rand(x.shape, generator=generator).to(x.device)
