"""Wire form: the payload in the tensor's place, side information beside it, and how to put it together again.

Side information of tensor NAME is `side["<kind>.<NAME>.<part>"]`. The options say which tensors were packed,
"<kind>.<NAME>" each, which of them are restricted to values that both ends know, and the shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

from torch import Tensor

from edgeai.fedsplit.protocol.codec.codec import Packed
from edgeai.fedsplit.protocol.message import Message, Option

PackedKind = Literal["activations", "gradients"]
PACKED, RESTRICTED = "codec.packed", "codec.restricted"

T = TypeVar("T")


class WireWriter:
    """A message on its way into wire form.

    Args:
        message: Stays as it is.
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
        """Puts a packed tensor in the place of the tensor, whose shape is given."""
        key = f"{kind}.{name}"
        self._tensors[kind][name] = packed.payload
        for part, tensor in packed.side.items():
            self._side[f"{key}.{part}"] = tensor
        self._shapes[f"{key}.shape"] = list(shape)
        self._packed.append(key)
        if is_restricted:
            self._restricted.append(key)

    def wire(self) -> Message:
        """The wire form; the message itself where nothing was packed."""
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
    """A message on its way out of wire form.

    Args:
        wire: Stays as it is.
    """

    def __init__(self, wire: Message) -> None:
        self._wire = wire
        self._keys = _texts(wire.options.get(PACKED, []))
        self._restricted = _texts(wire.options.get(RESTRICTED, []))
        self._tensors: dict[PackedKind, dict[str, Tensor]] = {
            "activations": dict(wire.activations),
            "gradients": dict(wire.gradients),
        }

    def packed(self, kind: PackedKind) -> Iterator[tuple[str, Packed, bool]]:
        """The packed tensors of a kind: name, what crossed, whether it is restricted to values both ends know."""
        for key in self._keys:
            found, _, name = key.partition(".")
            if found == kind:
                side = {part.removeprefix(f"{key}."): tensor for part, tensor in self._wire.side.items()}
                shape = self._wire.options[f"{key}.shape"]
                assert isinstance(shape, list)
                yield (
                    name,
                    Packed(self._tensors[kind][name], tuple(int(size) for size in shape), side),
                    key in self._restricted,
                )

    def put(self, kind: PackedKind, name: str, tensor: Tensor) -> None:
        """Puts a tensor back in its place."""
        self._tensors[kind][name] = tensor

    def message(self) -> Message:
        """The message, without what the wire form had added."""
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
