"""The compiled library: built once for this machine from csrc/ with the system's C++ compiler, and loaded by ctypes.

Every instruction set is compiled from the same source with its own flags; which one runs is chosen when it is loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from edgeai.core import assets
from edgeai.core.files import write_whole
from edgeai.spec.target.native import structures

SOURCE = Path(__file__).parent / "csrc"
COMPILERS = ("c++", "g++", "clang++")
# -ffp-contract=off: only written fused multiply-adds, so that every variant rounds alike
# -fno-thread-jumps: GCC 12 spends most of a minute on it and gains nothing
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-pthread", "-ffp-contract=off", "-fno-math-errno", "-fno-thread-jumps")
X86_VARIANTS = {
    "portable": (),
    "avx2": ("-DEDGEAI_AVX2", "-mavx2", "-mfma", "-mf16c"),
    "avx512vnni": (
        "-DEDGEAI_AVX512VNNI",
        *(f"-mavx512{part}" for part in ("f", "vl", "bw", "dq", "vnni")),
        "-mavx2",
        "-mfma",
        "-mf16c",
    ),
}
ARM_VARIANTS = {"portable": (), "neon": ("-DEDGEAI_NEON", "-march=armv8.2-a+dotprod+fp16")}


class Unavailable(Exception):
    """The native runtime cannot run here; the text says why."""


@dataclass(frozen=True)
class Library:
    """The loaded library and the instruction set it runs on."""

    handle: ctypes.CDLL
    variant: int
    """Index of the variant among the usable ones."""
    name: str
    """Instruction set, such as "avx2"."""


@lru_cache(maxsize=1)
def load_library() -> Library:
    """Return the library, compiled if this machine has not done so yet.

    Raises:
        Unavailable: There is no compiler, or the compiler fails.
    """
    path = _build()
    handle = ctypes.CDLL(str(path))
    handle.edgeai_packed_bytes.restype = ctypes.c_size_t
    handle.edgeai_variant.restype = ctypes.c_char_p
    handle.edgeai_engine.restype = ctypes.c_void_p
    for name in ("edgeai_run", "edgeai_free"):
        getattr(handle, name).argtypes = (ctypes.c_void_p,) * (2 if name == "edgeai_run" else 1)
        getattr(handle, name).restype = None
    names = [handle.edgeai_variant(variant).decode() for variant in range(handle.edgeai_num_variants())]
    name = _checked_variant(handle, names, path.with_suffix(".json"))
    return Library(handle, names.index(name), name)


def variants_of(machine: str) -> dict[str, tuple[str, ...]]:
    """Return the compiler flags of every variant for a processor family as `platform.machine` names it."""
    if machine in ("x86_64", "AMD64"):
        return X86_VARIANTS
    return ARM_VARIANTS if machine in ("aarch64", "arm64") else {"portable": ()}


def _build() -> Path:
    variants = variants_of(platform.machine())
    key = hashlib.sha256(repr((FLAGS, variants)).encode())
    for path in sorted(SOURCE.iterdir()):
        key.update(path.read_bytes())
    target = assets.cache_dir() / "native" / f"edgeai-{key.hexdigest()[:16]}.so"
    if target.is_file():
        return target
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise Unavailable("there is no C++ compiler (looked for c++, g++ and clang++)")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        compile_library(compiler, variants, Path(scratch), Path(scratch) / target.name)
        (Path(scratch) / target.name).replace(target)
    return target


def compile_library(
    compiler: str, variants: dict[str, tuple[str, ...]], scratch: Path, out: Path, extra: tuple[str, ...] = ()
) -> None:
    """Compile and link the library.

    Args:
        compiler: Path of the C++ compiler.
        variants: Flags by instruction set.
        scratch: Folder of the object files.
        out: The shared library to write.
        extra: More flags, such as those of a sanitizer.

    Raises:
        Unavailable: The compiler fails.
    """
    has = tuple(f"-DEDGEAI_HAS_{name.upper()}" for name in variants)
    jobs = [(scratch / f"{name}.o", "variant.cpp", flags) for name, flags in variants.items()]
    jobs += [(scratch / f"{name}.o", f"{name}.cpp", ()) for name in ("pack", "unpack")]
    jobs.append((scratch / "api.o", "api.cpp", has))
    commands = [
        [compiler, *FLAGS, *extra, *flags, "-c", str(SOURCE / source), "-o", str(to)] for to, source, flags in jobs
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(_call, commands):
            pass
    _call([compiler, "-shared", "-pthread", *extra, *(str(to) for to, *_ in jobs), "-o", str(out)])


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or [""]
        raise Unavailable(f"{command[0]} cannot compile the native runtime: {lines[0]}")


def _checked_variant(handle: ctypes.CDLL, names: list[str], record: Path) -> str:
    """The fastest variant that agrees with the portable one; checked once for a library and a processor.

    Args:
        handle: The loaded library.
        names: Variants that the processor has, the fastest last.
        record: File beside the library with the outcome.
    """
    outcome = {"processor": _processor(), "variants": names}
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        chosen = str(known.pop("name"))
        if chosen in names and known == outcome:
            return chosen
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # not checked yet, or the record was damaged
    name = next(names[variant] for variant in reversed(range(len(names))) if variant == 0 or _agrees(handle, variant))
    with contextlib.suppress(OSError):  # a read-only cache: checked every time
        write_whole(record, json.dumps({**outcome, "name": name}))
    return name


def _processor() -> str:
    """A hash of the processor's name and instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    told = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    told |= {platform.machine(), platform.processor()}
    return hashlib.sha256("\n".join(sorted(told)).encode()).hexdigest()[:16]


def _agrees(handle: ctypes.CDLL, variant: int) -> bool:
    """Whether a variant gives the bits of the portable one: a wrong kernel must never be chosen silently."""
    rng = np.random.default_rng(0)
    n, k, rows = 16, 256, 9
    x = rng.standard_normal((rows, k), dtype=np.float32)
    for kind in range(9):
        data = rng.integers(0, 60, handle.edgeai_packed_bytes(kind, n, k) + 64, dtype=np.uint8)  # halves stay finite
        matrix = structures.Matrix(kind, n, k, data.ctypes.data, None)
        found = []
        for index in (0, variant):
            y = np.empty((rows, n), dtype=np.float32)
            handle.edgeai_multiply(
                index,
                ctypes.byref(matrix),
                ctypes.c_void_p(x.ctypes.data),
                rows,
                ctypes.c_void_p(y.ctypes.data),
            )
            found.append(y)
        if not np.array_equal(found[0], found[1]):
            return False
    return True
