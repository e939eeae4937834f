"""Message between a client and a server: named tensors, grouped by kind.

A message in wire form is also a `Message`: packed tensors under the kind that was packed, side information under
`side`, shapes and other control fields in `options`. Bytes are counted on wire forms only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from torch import Tensor

Kind = Literal["activations", "gradients", "weights", "labels", "side"]
KINDS: tuple[Kind, ...] = ("activations", "gradients", "weights", "labels", "side")
"""All kinds that the ledger distinguishes, in display order."""

Option: TypeAlias = int | float | str | bool | list[int] | list[float] | list[str]


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One message. It is created for every batch of every client, so it is not validated.

    Attributes:
        activations: Smashed data and features.
        gradients: Gradients at the cut.
        weights: Parameters and buffers, or differences of them.
        labels: Targets.
        side: All other tensors that must be sent: scales, indices, codebooks, logits, histograms.
        options: Control fields; not charged.
    """

    activations: Mapping[str, Tensor] = field(default_factory=dict)
    gradients: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    side: Mapping[str, Tensor] = field(default_factory=dict)
    options: Mapping[str, Option] = field(default_factory=dict)

    def tensors(self, kind: Kind) -> Mapping[str, Tensor]:
        """Return the tensors of one kind, by name."""
        found: Mapping[str, Tensor] = getattr(self, kind)
        return found

    def num_bytes(self, kind: Kind) -> int:
        """Return the bytes of one kind: number of elements times element size, without framing."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors(kind).values())

    def number(self, name: str) -> float:
        """Return a numeric option."""
        value = self.options[name]
        assert isinstance(value, int | float), f"option {name} is not a number"
        return value

    @property
    def is_empty(self) -> bool:
        """Whether the message has no tensors; it may have options."""
        return not (self.activations or self.gradients or self.weights or self.labels or self.side)


EMPTY = Message()
"""Message without content: the receiver may continue."""
