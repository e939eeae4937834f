"""What every codec does: one tensor to a payload and side information, and back.

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
        shape: Of the tensor, [b, ...].
        side: What is needed beside the payload and the shape: ranges, indices, codebooks.
    """

    payload: Tensor
    shape: tuple[int, ...]
    side: dict[str, Tensor] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """Payload and side information."""
        return sum(part.numel() * part.element_size() for part in (self.payload, *self.side.values()))

    @property
    def num_values(self) -> int:
        """Q."""
        return math.prod(self.shape[1:])


class Codec(Protocol):
    """One direction of a link. Holds settings only: what lasts from batch to batch is kept by the channel."""

    def pack(self, x: Tensor, chance: torch.Generator) -> Packed:
        """Packs float values [b, ...]; `chance` is a CPU generator for whatever is left to chance."""

    def unpack(self, packed: Packed) -> Tensor:
        """What the other end sees: float32 [b, ...]."""


def uniform_noise(x: Tensor, chance: torch.Generator) -> Tensor:
    """Numbers in [0, 1) of the shape of x, the same on every device."""
    return torch.rand(x.shape, generator=chance).to(x.device)
