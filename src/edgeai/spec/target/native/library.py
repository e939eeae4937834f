"""The compiled library: part of the wheel, or compiled once on this machine; loaded by ctypes.

It holds a variant for each instruction set; which one runs is chosen when it is loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import platform
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from edgeai.core import assets
from edgeai.core.files import write_whole
from edgeai.spec.target.native import structures
from edgeai.spec.target.native.compilation import Unavailable, compile_for_this_processor, library_name

SHIPPED = Path(__file__).parent
"""Where the wheel holds the library."""


@dataclass(frozen=True)
class Library:
    """The loaded library and the instruction set it runs on."""

    handle: ctypes.CDLL
    variant: int
    """Index of the variant among the usable ones."""
    name: str
    """Instruction set, such as "avx2"."""
    origin: str = "compiled on this machine"
    """Where the library comes from."""


@lru_cache(maxsize=1)
def load_library() -> Library:
    """Return the library, compiled if this machine has not done so yet.

    Raises:
        Unavailable: There is no compiler, or the compiler fails.
    """
    handle, origin = _open()
    record = (assets.cache_dir() / "native" / library_name()).with_suffix(".json")
    handle.edgeai_packed_bytes.restype = ctypes.c_size_t
    handle.edgeai_variant.restype = ctypes.c_char_p
    handle.edgeai_engine.restype = ctypes.c_void_p
    for name, num_arguments in (("edgeai_run", 2), ("edgeai_draft", 2), ("edgeai_free", 1)):
        getattr(handle, name).argtypes = (ctypes.c_void_p,) * num_arguments
        getattr(handle, name).restype = None
    names = [handle.edgeai_variant(variant).decode() for variant in range(handle.edgeai_num_variants())]
    name = _checked_variant(handle, names, record)
    return Library(handle, names.index(name), name, origin)


def _open() -> tuple[ctypes.CDLL, str]:
    """Open the library that came with the package, else the one that this machine compiled or compiles now; also
    returns which one it is.
    """
    shipped, compiled = SHIPPED / library_name(), assets.cache_dir() / "native" / library_name()
    if shipped.is_file():
        with contextlib.suppress(OSError):  # built for a system whose C++ library this one does not have
            return ctypes.CDLL(str(shipped)), "part of the package"
    if not compiled.is_file():
        compile_for_this_processor(compiled)
    try:
        return ctypes.CDLL(str(compiled)), "compiled on this machine"
    except OSError as error:
        raise Unavailable(f"the compiled library cannot be loaded: {error}") from error


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
