"""Products of packed matrices: every format against gguf's own dequantization, every variant to the bit."""

import ctypes
import shutil
import subprocess
import sys

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from edgeai.spec.target.native import compilation
from edgeai.spec.target.native import library as module
from edgeai.spec.target.native.compilation import Unavailable, variants_of
from edgeai.spec.target.native.structures import Matrix

N, K, ROWS = 40, 768, 19
FLOATS = ("F32", "F16", "BF16")
QUANTIZED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")


def weights(name):
    """A matrix in a file's type, as the file holds it and dequantized."""
    rng = np.random.default_rng(0)
    kind = GGMLQuantizationType[name]
    exact = rng.normal(size=(N, K)).astype(np.float32)
    if name == "F32":
        return kind, exact, exact
    if name == "F16":
        return kind, exact.astype(np.float16), exact.astype(np.float16).astype(np.float32)
    if not name.endswith("_K"):
        raw = quants.quantize(exact, kind)
        return kind, raw, quants.dequantize(raw, kind)
    block, size = gguf.GGML_QUANT_SIZES[kind]  # gguf cannot quantize these: random bytes with sane scales
    raw = rng.integers(0, 256, (N, K // block, size), dtype=np.uint8)
    scales = rng.uniform(0.001, 0.01, (N, K // block, 2)).astype(np.float16).view(np.uint8)
    if name == "Q6_K":
        raw[..., 208:] = scales[..., :2]
    else:
        raw[..., :4] = scales
    raw = raw.reshape(N, -1)
    return kind, raw, quants.dequantize(raw, kind)


def packed(library, kind, raw):
    raw = np.ascontiguousarray(raw)
    packed_kind = library.handle.edgeai_kind(int(kind))
    data = np.zeros(library.handle.edgeai_packed_bytes(packed_kind, N, K), np.uint8)
    pointers = (ctypes.c_void_p(raw.ctypes.data), N, K, ctypes.c_void_p(data.ctypes.data))
    library.handle.edgeai_pack(int(kind), *pointers)
    return Matrix(packed_kind, N, K, data.ctypes.data, None), data


def multiply(library, variant, matrix, x):
    x, y = np.ascontiguousarray(x), np.empty((len(x), N), np.float32)
    library.handle.edgeai_multiply(
        variant, ctypes.byref(matrix), ctypes.c_void_p(x.ctypes.data), len(x), ctypes.c_void_p(y.ctypes.data)
    )
    return y


@pytest.mark.parametrize("name", FLOATS + QUANTIZED)
def test_products_of_every_type(library, name):
    """int8 activations in groups of 32 are off by at most 1/254 of the largest of their group."""
    kind, raw, dequantized = weights(name)
    matrix, _data = packed(library, kind, raw)
    x = np.random.default_rng(1).normal(size=(ROWS, K)).astype(np.float32)
    y = multiply(library, library.variant, matrix, x)
    exact = x.astype(np.float64) @ dequantized.T.astype(np.float64)
    if name in FLOATS:
        bound = 1e-5 * np.abs(x) @ np.abs(dequantized.T)
    else:
        steps = np.abs(x).reshape(ROWS, -1, 32).max(2).repeat(32, 1) / 254
        bound = 1.001 * steps @ np.abs(dequantized.T) + 1e-5
    assert (np.abs(y - exact) <= bound).all()


@pytest.mark.parametrize("name", FLOATS + QUANTIZED)
def test_variants_agree_and_rows_are_independent_to_the_bit(library, name):
    kind, raw, _ = weights(name)
    matrix, _data = packed(library, kind, raw)
    x = np.random.default_rng(2).normal(size=(ROWS, K)).astype(np.float32)
    portable = multiply(library, 0, matrix, x)
    for variant in range(library.handle.edgeai_num_variants()):
        together = multiply(library, variant, matrix, x)
        assert np.array_equal(together, portable)
        for size in (1, 2, 3, 5, 8, 9, 12, 16, 17):
            assert np.array_equal(multiply(library, variant, matrix, x[:size]), portable[:size])


@pytest.mark.parametrize("name", FLOATS + QUANTIZED)
def test_unpacked_values_are_what_gguf_dequantizes(library, name):
    kind, raw, dequantized = weights(name)
    matrix, _data = packed(library, kind, raw)
    rows, columns = np.array([0, N - 1, 17, 17, 3]), np.array([0, K - 1, 255, 256, 77])
    whole, single = np.empty((len(rows), K), np.float32), np.empty(len(rows), np.float32)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (rows, columns, whole, single)]
    library.handle.edgeai_rows(ctypes.byref(matrix), pointers[0], ctypes.c_int64(len(rows)), pointers[2])
    library.handle.edgeai_values(ctypes.byref(matrix), *pointers[:2], ctypes.c_int64(len(rows)), pointers[3])
    assert np.array_equal(whole, dequantized[rows])
    assert np.array_equal(single, dequantized[rows, columns])


@pytest.mark.parametrize("name", FLOATS + QUANTIZED)
def test_parts_of_a_matrix_can_be_packed_by_themselves(library, name):
    kind, raw, _ = weights(name)
    _, whole = packed(library, kind, raw)
    packed_kind, parts = library.handle.edgeai_kind(int(kind)), np.zeros_like(whole)
    for first, count in ((0, 32), (32, N - 32)):
        part = np.ascontiguousarray(raw[first : first + count])
        to = parts.ctypes.data + library.handle.edgeai_packed_bytes(packed_kind, first, K)
        library.handle.edgeai_pack(int(kind), ctypes.c_void_p(part.ctypes.data), count, K, ctypes.c_void_p(to))
    assert np.array_equal(parts, whole)


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(compilation.shutil, "which", lambda name: None)


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    """A cache without a library, and no memory of one loaded before."""
    monkeypatch.setenv("EDGEAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "load_library", module.load_library.__wrapped__)


def test_without_a_compiler_the_reason_is_told(empty_cache, no_compiler, monkeypatch):
    monkeypatch.setattr(compilation.platform, "system", lambda: "Linux")
    with pytest.raises(Unavailable) as caught:
        module.load_library()
    assert str(caught.value) == "there is no C++ compiler (looked for c++, g++ and clang++)"
    assert caught.value.paste == "sudo apt install g++"


def test_a_compiler_that_fails_is_quoted(empty_cache, monkeypatch, tmp_path):
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'x.cpp:1: error: no such flag' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(compilation.shutil, "which", lambda name: str(broken))
    with pytest.raises(Unavailable, match=r"cannot compile the native runtime: x.cpp:1: error: no such flag$"):
        module.load_library()
    assert not list((tmp_path / "cache" / "native").iterdir())  # nothing half-made


def test_the_library_of_the_package_needs_no_compiler(library, empty_cache, no_compiler, monkeypatch, tmp_path):
    name = compilation.library_name()
    shutil.copy(library.handle._name, tmp_path / name)
    monkeypatch.setattr(module, "SHIPPED", tmp_path)
    assert module.load_library().handle._name == str(tmp_path / name)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / name).write_bytes(b"built for another system")
    monkeypatch.setattr(module, "SHIPPED", tmp_path / "other")
    with pytest.raises(Unavailable, match="there is no C"):
        module.load_library()


def test_compiling_needs_the_standard_library_only():
    """The build of a wheel runs the file by itself, where nothing else is installed."""
    program = f"import runpy; print(runpy.run_path({compilation.__file__!r})['library_name']())"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == compilation.library_name()


def test_variants_are_checked_once_for_a_library_and_a_processor(monkeypatch, tmp_path):
    record, checked = tmp_path / "library.json", []
    monkeypatch.setattr(module, "_agrees", lambda handle, variant: checked.append(variant) or variant == 1)
    names = ["portable", "avx2", "avx512vnni"]

    def choose(names=names):
        checked.clear()
        return module._checked_variant(None, names, record), list(checked)

    assert choose() == ("avx2", [2, 1])
    assert choose() == ("avx2", [])
    assert choose(names[:2]) == ("avx2", [1])  # another processor, another check
    monkeypatch.setattr(module, "_processor", lambda: "another")
    assert choose(names[:2]) == ("avx2", [1])
    for damaged in ("", "[]", "{}", '{"name": "avx9"}'):
        record.write_text(damaged)
        assert choose() == ("avx2", [2, 1])
        assert choose() == ("avx2", [])


def test_every_processor_has_a_portable_variant():
    assert all("portable" in variants_of(machine) for machine in ("x86_64", "aarch64", "riscv64"))
    assert "avx512vnni" in variants_of("x86_64")
    assert "neon" in variants_of("arm64")
