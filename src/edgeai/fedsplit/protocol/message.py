"""What crosses between a client and a server: named tensors, sorted by what they are.

A message in wire form is again a message: packed tensors under the kind that was packed, side information under
`side`, shapes and other control words in `options`. Bytes are only ever counted on wire forms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from torch import Tensor

Kind = Literal["activations", "gradients", "weights", "labels", "side"]
KINDS: tuple[Kind, ...] = ("activations", "gradients", "weights", "labels", "side")
"""Every kind of bytes that the ledger tells apart, in the order in which it shows them."""

Option: TypeAlias = int | float | str | bool | list[int] | list[float] | list[str]


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One message. Made for every batch of every client, so nothing is checked here.

    Attributes:
        activations: Smashed data and features.
        gradients: Gradients at the cut.
        weights: Parameters and buffers, or their differences.
        labels: Targets.
        side: Everything else that must cross: scales, indices, codebooks, logits, histograms.
        options: Control words; not charged.
    """

    activations: Mapping[str, Tensor] = field(default_factory=dict)
    gradients: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    side: Mapping[str, Tensor] = field(default_factory=dict)
    options: Mapping[str, Option] = field(default_factory=dict)

    def tensors(self, kind: Kind) -> Mapping[str, Tensor]:
        """The tensors of one kind, by name."""
        found: Mapping[str, Tensor] = getattr(self, kind)
        return found

    def num_bytes(self, kind: Kind) -> int:
        """Bytes of one kind: elements times the size of one, without any framing."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors(kind).values())

    @property
    def is_empty(self) -> bool:
        """Carries no tensor; options may still be there."""
        return not (self.activations or self.gradients or self.weights or self.labels or self.side)


EMPTY = Message()
"""Says nothing: the other side may go on."""
