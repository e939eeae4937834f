"""Wire form of a message: payloads in place of the packed tensors, with side information and shapes.

Side information of tensor NAME is `side["<kind>.<NAME>.<part>"]`. The options list the packed tensors as
"<kind>.<NAME>", those restricted to indices that both ends know, and the shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, TypeVar

from torch import Tensor

from edgeai.fedsplit.protocol.codec.codec import Packed
from edgeai.fedsplit.protocol.message import Message, Option

PackedKind = Literal["activations", "gradients"]
PACKED, RESTRICTED = "codec.packed", "codec.restricted"

T = TypeVar("T")


class PackedTensor(NamedTuple):
    """A packed tensor of a message."""

    name: str
    packed: Packed
    is_restricted: bool
    """Only values at indices that both ends know are sent."""


class WireWriter:
    """Builds the wire form of a message.

    Args:
        message: Message to encode; it is not changed.
    """

    def __init__(self, message: Message) -> None:
        self._message = message
        self._tensors: dict[PackedKind, dict[str, Tensor]] = {
            "activations": dict(message.activations),
            "gradients": dict(message.gradients),
        }
        self._side: dict[str, Tensor] = {}
        self._shapes: dict[str, Option] = {}
        self._packed: list[str] = []
        self._restricted: list[str] = []

    def put(self, kind: PackedKind, name: str, packed: Packed, *, shape: Sequence[int], is_restricted: bool) -> None:
        """Replace a tensor with its packed form.

        Args:
            kind: Kind of the tensor.
            name: Name of the tensor.
            packed: Packed form.
            shape: Shape of the tensor before packing.
            is_restricted: Whether only values at indices that both ends know are sent.
        """
        key = f"{kind}.{name}"
        self._tensors[kind][name] = packed.payload
        for part, tensor in packed.side.items():
            self._side[f"{key}.{part}"] = tensor
        self._shapes[f"{key}.shape"] = list(shape)
        self._packed.append(key)
        if is_restricted:
            self._restricted.append(key)

    def wire(self) -> Message:
        """Return the wire form; the message itself if nothing was packed."""
        if not self._packed:
            return self._message
        control: dict[str, Option] = {PACKED: self._packed, RESTRICTED: self._restricted}
        return replace(
            self._message,
            activations=self._tensors["activations"],
            gradients=self._tensors["gradients"],
            side={**self._message.side, **self._side},
            options={**self._message.options, **control, **self._shapes},
        )


class WireReader:
    """Decodes a message from wire form.

    Args:
        wire: Message in wire form; it is not changed.
    """

    def __init__(self, wire: Message) -> None:
        self._wire = wire
        self._keys = _texts(wire.options.get(PACKED, []))
        self._restricted = _texts(wire.options.get(RESTRICTED, []))
        self._tensors: dict[PackedKind, dict[str, Tensor]] = {
            "activations": dict(wire.activations),
            "gradients": dict(wire.gradients),
        }

    def packed(self, kind: PackedKind) -> Iterator[PackedTensor]:
        """Yield the packed tensors of a kind."""
        for key in self._keys:
            found, _, name = key.partition(".")
            if found == kind:
                side = {part.removeprefix(f"{key}."): tensor for part, tensor in self._wire.side.items()}
                shape = self._wire.options[f"{key}.shape"]
                assert isinstance(shape, list)
                packed = Packed(self._tensors[kind][name], tuple(int(size) for size in shape), side)
                yield PackedTensor(name, packed, key in self._restricted)

    def put(self, kind: PackedKind, name: str, tensor: Tensor) -> None:
        """Replace a packed tensor with the decoded one."""
        self._tensors[kind][name] = tensor

    def message(self) -> Message:
        """Return the decoded message, without the fields that the wire form added."""
        return replace(
            self._wire,
            activations=self._tensors["activations"],
            gradients=self._tensors["gradients"],
            side=self._stripped(self._wire.side),
            options=self._stripped(self._wire.options),
        )

    def _stripped(self, entries: Mapping[str, T]) -> dict[str, T]:
        prefixes = (*(f"{key}." for key in self._keys), "codec.")
        return {name: entry for name, entry in entries.items() if not name.startswith(prefixes)}


def _texts(option: Option) -> list[str]:
    assert isinstance(option, list)
    return [str(item) for item in option]
