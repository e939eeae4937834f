"""Headers of GGUF files: what gguf's own reader finds, and one clear error for every kind of damage."""

import struct

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from edgeai.core.errors import EdgeAIError
from edgeai.spec.target.native.gguf_header import DamagedGGUFError, Skipped, read_header

STRING, ARRAY, U32 = 8, 9, 4


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def key(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def tensor(name="w", shape=(4, 2), kind=0, offset=0):
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def file_of(keys=(), tensors=(), *, magic=b"GGUF", version=3, num_keys=None, num_tensors=None, data=64):
    counts = (len(tensors) if num_tensors is None else num_tensors, len(keys) if num_keys is None else num_keys)
    header = magic + struct.pack("<IQQ", version, *counts) + b"".join(keys) + b"".join(tensors)
    return header + bytes(-len(header) % 32) + bytes(data)


@pytest.fixture
def read(tmp_path):
    def read(content):
        (tmp_path / "a.gguf").write_bytes(content)
        return read_header(tmp_path / "a.gguf")

    return read


def test_the_header_is_what_gguf_reads(write_gguf):
    path = write_gguf("Q4_1", tokens=["a", "b" * 300, ""], scores=[0.5, 0.25])
    header, theirs = read_header(path), GGUFReader(path)
    assert header.keys["llama.block_count"] == 8
    assert header.keys["general.architecture"] == "llama"
    assert header.keys["llama.tokens"] == Skipped(3)
    assert header.keys["llama.scores"] == Skipped(2)
    assert list(header.tensors) == [found.name for found in theirs.tensors]
    for found in theirs.tensors:
        ours = header.tensors[found.name]
        assert ours.shape == tuple(map(int, found.shape))[::-1]
        assert (ours.offset, ours.type) == (found.data_offset, found.tensor_type)
        assert ours.row_bytes * int(np.prod(ours.shape[:-1])) == found.n_bytes


def test_keys_of_every_type(tmp_path):
    writer = GGUFWriter(tmp_path / "a.gguf", "llama")
    wanted = {"u8": 1, "i8": -2, "u16": 3, "i16": -4, "u32": 5, "i32": -6, "f32": 0.5, "b": True, "u64": 7, "i64": -8}
    names = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "uint64", "int64")
    for (name, value), kind in zip(wanted.items(), names, strict=True):
        getattr(writer, f"add_{kind}")(name, value)
    writer.add_float64("f64", 0.1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    keys = read_header(tmp_path / "a.gguf").keys
    assert {name: keys[name] for name in wanted} == wanted
    assert keys["f64"] == 0.1


DAMAGED = {
    "another format": (file_of(magic=b"PK\3\4"), "it does not begin with 'GGUF'"),
    "empty": (b"", "it ends within its header"),
    "version 1": (file_of(version=1), "its version is 1, not 2 or 3"),
    "big-endian": (file_of(version=0x03000000), "its version is 50331648, not 2 or 3"),
    "keys beyond the end": (file_of(num_keys=1 << 60), "it ends within its header"),
    "tensors beyond the end": (file_of(num_tensors=1 << 60), "it ends within its header"),
    "long name": (file_of([key("n" * 70000, U32, bytes(4))]), "a text in its header has 70000 bytes"),
    "endless name": (file_of([struct.pack("<Q", 1 << 62)], num_keys=1), "a text in its header has 4611686018427387904"),
    "long text": (file_of([key("a", STRING, text("x" * 2_000_000))]), "a text in its header has 2000000 bytes"),
    "not UTF-8": (file_of([key("a", STRING, text(b"\xff\xfe"))]), "a text in its header is not UTF-8"),
    "a key twice": (file_of([key("a", U32, bytes(4))] * 2), "the key 'a' occurs twice"),
    "type of a value": (file_of([key("a", 13, bytes(4))]), "a value in its header has the unknown type 13"),
    "type of an array": (file_of([key("a", ARRAY, struct.pack("<IQ", 77, 1))]), "an array in its header has the"),
    "nested array": (file_of([key("a", ARRAY, struct.pack("<IQ", ARRAY, 1))]), "an array in its header has the"),
    "endless array": (file_of([key("a", ARRAY, struct.pack("<IQ", U32, 1 << 62))]), "it ends within its header"),
    "endless strings": (file_of([key("a", ARRAY, struct.pack("<IQ", STRING, 1 << 62))]), "it ends within its header"),
    "endless string in an array": (
        file_of([key("a", ARRAY, struct.pack("<IQQ", STRING, 1, 1 << 62))]),
        "it ends within its header",
    ),
    "alignment": (file_of([key("general.alignment", U32, struct.pack("<I", 3))]), "its alignment is 3, not a power"),
    "alignment of zero": (file_of([key("general.alignment", U32, bytes(4))]), "its alignment is 0, not a power"),
    "alignment as text": (file_of([key("general.alignment", STRING, text("a"))]), "its alignment is 'a', not a power"),
    "a tensor twice": (file_of(tensors=[tensor()] * 2), "the tensor 'w' occurs twice"),
    "no dimensions": (file_of(tensors=[tensor(shape=())]), "the tensor 'w' has 0 dimensions"),
    "many dimensions": (file_of(tensors=[tensor(shape=(1,) * 5)]), "the tensor 'w' has 5 dimensions"),
    "size of zero": (file_of(tensors=[tensor(shape=(4, 0))]), "the tensor 'w' has the shape (0, 4)"),
    "half a block": (file_of(tensors=[tensor(shape=(48, 1), kind=2)]), "the tensor 'w' has the shape (1, 48)"),
    "not aligned": (file_of(tensors=[tensor(offset=4)]), "the tensor 'w' is not aligned"),
    "outside": (file_of(tensors=[tensor(offset=64)]), "it ends before the end of its tensor 'w'"),
    "far outside": (file_of(tensors=[tensor(offset=(1 << 64) - 32)]), "it ends before the end of its tensor 'w'"),
    "too large": (file_of(tensors=[tensor(shape=(1 << 63, 1 << 63))]), "it ends before the end of its tensor 'w'"),
    "odd name": (file_of(tensors=[tensor("a\n" + "b" * 100, offset=64)]), "it ends before the end of its tensor 'a\\n"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_named_in_one_line(read, name):
    content, message = DAMAGED[name]
    with pytest.raises(DamagedGGUFError) as caught:
        read(content)
    assert f"is not a readable GGUF file: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(EdgeAIError, match=r"cannot read .*: Is a directory$"):
        read_header(tmp_path)


def test_types_that_are_not_supported_have_names(read):
    found = read(file_of(tensors=[tensor("a", kind=16), tensor("b", kind=4711)])).tensors
    assert (found["a"].type_name, found["b"].type_name) == ("IQ2_XXS", "number 4711")
