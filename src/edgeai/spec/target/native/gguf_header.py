"""The header of a GGUF file: keys and the places of its tensors, checked before anything is used.

Nothing in the file is trusted: every length and offset is compared with the size of the file before it is followed.
Arrays, such as a vocabulary of 49,000 tokens, are skipped.

Source: the GGUF specification, versions 2 and 3 (ggml, docs/gguf.md).
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgeai.core.errors import EdgeAIError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_DIMS = 4
_MAX_NAME_BYTES, _MAX_TEXT_BYTES = 65535, 1 << 20
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True)
class TensorType:
    """A type of tensors: `block` values are stored in `num_bytes`."""

    name: str
    block: int
    num_bytes: int


TYPES = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    30: TensorType("BF16", 1, 2),
}
"""The supported types by their numbers in the file."""


@dataclass(frozen=True)
class TensorInfo:
    """Place and type of a tensor."""

    name: str
    shape: tuple[int, ...]
    """Sizes with the contiguous one last, as NumPy has them."""
    type: int
    """A number of `TYPES`, or of a type that is not supported."""
    offset: int
    """First byte in the file."""

    @property
    def type_name(self) -> str:
        """Name of the type, also of one that is not supported."""
        return TYPES[self.type].name if self.type in TYPES else _unsupported_name(self.type)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row; 0 if the type is not supported."""
        found = TYPES.get(self.type)
        return self.shape[-1] // found.block * found.num_bytes if found else 0


@dataclass(frozen=True)
class Skipped:
    """An array among the keys, which was not read."""

    num_values: int


Value = int | float | bool | str | Skipped


@dataclass(frozen=True)
class Header:
    """Keys and tensors of a GGUF file."""

    keys: Mapping[str, Value]
    tensors: Mapping[str, TensorInfo]


def quoted(name: str) -> str:
    """Return a name from a file for a message: one short line, whatever the file holds."""
    return repr(name if len(name) <= 80 else name[:77] + "...")


class DamagedGGUFError(EdgeAIError):
    """The file is not GGUF, or contradicts itself."""


def read_header(path: Path) -> Header:
    """Read the header of a GGUF file.

    Raises:
        DamagedGGUFError: The file is not GGUF, is truncated, or contradicts itself.
    """
    try:
        with path.open("rb") as file:
            return _Parser(file, os.fstat(file.fileno()).st_size).header()
    except OSError as error:
        raise DamagedGGUFError(f"cannot read {path}: {error.strerror}") from error
    except _Damage as damage:
        raise DamagedGGUFError(f"{path} is not a readable GGUF file: {damage}") from damage


class _Damage(Exception):
    """What is wrong with the file."""


class _Parser:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self._at = file, size, 0

    def header(self) -> Header:
        if self._take(4) != MAGIC:
            raise _Damage("it does not begin with 'GGUF'")
        version = self._number("I")
        if version not in VERSIONS:
            raise _Damage(f"its version is {version}, not {' or '.join(map(str, VERSIONS))}")
        num_tensors, num_keys = self._number("Q"), self._number("Q")
        keys: dict[str, Value] = {}
        for _ in range(self._checked(num_keys, 13)):  # length, type and one byte
            name = self._string(_MAX_NAME_BYTES)
            if name in keys:
                raise _Damage(f"the key {quoted(name)} occurs twice")
            keys[name] = self._value(self._number("I"))
        alignment = keys.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise _Damage(f"its alignment is {alignment!r}, not a power of two")
        infos = [self._tensor() for _ in range(self._checked(num_tensors, 24))]  # length, dims, type, offset
        begin = -(-self._at // alignment) * alignment
        tensors: dict[str, TensorInfo] = {}
        for info in infos:
            if info.name in tensors:
                raise _Damage(f"the tensor {quoted(info.name)} occurs twice")
            tensors[info.name] = self._placed(info, begin, alignment)
        return Header(keys, tensors)

    def _take(self, count: int) -> bytes:
        self._at += count
        if self._at > self._size:
            raise _Damage("it ends within its header")
        return self._file.read(count)

    def _number(self, code: str) -> int:
        return int(struct.unpack("<" + code, self._take(struct.calcsize(code)))[0])

    def _checked(self, count: int, min_bytes: int) -> int:
        """A number of entries of at least `min_bytes` each, if the rest of the file can hold them."""
        if count * min_bytes > self._size - self._at:
            raise _Damage("it ends within its header")
        return count

    def _string(self, max_bytes: int) -> str:
        length = self._number("Q")
        if length > max_bytes:
            raise _Damage(f"a text in its header has {length} bytes")
        try:
            return self._take(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise _Damage("a text in its header is not UTF-8") from error

    def _value(self, kind: int) -> Value:
        if kind == _STRING:
            return self._string(_MAX_TEXT_BYTES)
        if kind == _ARRAY:
            return self._skip_array()
        if kind not in _SCALARS:
            raise _Damage(f"a value in its header has the unknown type {kind}")
        code = _SCALARS[kind]
        value: Value = struct.unpack("<" + code, self._take(struct.calcsize(code)))[0]
        return value

    def _skip_array(self) -> Skipped:
        kind, count = self._number("I"), self._number("Q")
        if kind in _SCALARS:
            self._skip(self._checked(count, struct.calcsize(_SCALARS[kind])) * struct.calcsize(_SCALARS[kind]))
        elif kind == _STRING:
            self._skip_strings(self._checked(count, 8))
        else:
            raise _Damage(f"an array in its header has the unknown type {kind}")
        return Skipped(count)

    def _skip(self, count: int) -> None:
        self._at += count
        self._file.seek(count, 1)

    def _skip_strings(self, count: int) -> None:
        """Written out, as a vocabulary has hundreds of thousands of strings."""
        read, seek, unpack, at = self._file.read, self._file.seek, struct.Struct("<Q").unpack, self._at
        last = self._size - 8
        for _ in range(count):
            if at > last:
                raise _Damage("it ends within its header")
            (length,) = unpack(read(8))
            at += 8 + length
            if at > self._size:
                raise _Damage("it ends within its header")
            seek(length, 1)
        self._at = at

    def _tensor(self) -> TensorInfo:
        name = self._string(_MAX_NAME_BYTES)
        num_dims = self._number("I")
        if not 1 <= num_dims <= MAX_DIMS:
            raise _Damage(f"the tensor {quoted(name)} has {num_dims} dimensions")
        shape = tuple(self._number("Q") for _ in range(num_dims))[::-1]
        return TensorInfo(name, shape, self._number("I"), self._number("Q"))

    def _placed(self, info: TensorInfo, begin: int, alignment: int) -> TensorInfo:
        """The tensor with its offset in the file, if it lies within the file."""
        found = TYPES.get(info.type)
        if min(info.shape) < 1 or (found and info.shape[-1] % found.block):
            raise _Damage(f"the tensor {quoted(info.name)} has the shape {info.shape}")
        if info.offset % alignment:
            raise _Damage(f"the tensor {quoted(info.name)} is not aligned")
        num_bytes = math.prod(info.shape[:-1]) * info.row_bytes
        if begin + info.offset + num_bytes > self._size:
            raise _Damage(f"it ends before the end of its tensor {quoted(info.name)}")
        return TensorInfo(info.name, info.shape, info.type, begin + info.offset)


def _unsupported_name(kind: int) -> str:
    from gguf import GGMLQuantizationType  # slow to import; only for this message

    try:
        return str(GGMLQuantizationType(kind).name)
    except ValueError:
        return f"number {kind}"
