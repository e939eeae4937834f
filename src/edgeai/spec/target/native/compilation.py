"""Compiling the native runtime from csrc/ with the system's C++ compiler.

Needs the standard library only: the build of a wheel runs this file by itself (`hatch_build.py`). Every instruction set
is compiled from the same source with its own flags; which one runs is chosen when the library is loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCE = Path(__file__).parent / "csrc"
COMPILERS = ("c++", "g++", "clang++")
INSTALL_COMMANDS = {"Linux": "sudo apt install g++", "Darwin": "xcode-select --install"}
"""Commands that install a compiler."""
# -ffp-contract=off: only written fused multiply-adds, so that every variant rounds alike
# -fno-thread-jumps: GCC 12 spends most of a minute on it and gains nothing
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-pthread", "-ffp-contract=off", "-fno-math-errno", "-fno-thread-jumps")
_AVX2 = ("-mavx2", "-mfma", "-mf16c")
_AVX512 = ("-DEDGEAI_AVX512VNNI", *(f"-mavx512{part}" for part in ("f", "vl", "bw", "dq", "vnni")), *_AVX2)
# the fastest last; those that a compiler is too old for are left out
X86_VARIANTS = {
    "portable": (),
    "avx2": ("-DEDGEAI_AVX2", *_AVX2),
    "avxvnni": ("-DEDGEAI_AVX2", "-DEDGEAI_AVXVNNI", "-mavxvnni", *_AVX2),
    "avx512vnni": _AVX512,
    "avx512amx": ("-DEDGEAI_AMX", "-mamx-tile", "-mamx-int8", *_AVX512),
}
ARM_VARIANTS = {"portable": (), "neon": ("-DEDGEAI_NEON", "-march=armv8.2-a+dotprod+fp16")}


class Unavailable(Exception):
    """The native runtime cannot run here.

    Args:
        reason: Why it cannot.
        paste: Command that mends it; empty if there is none.
    """

    def __init__(self, reason: str, paste: str = "") -> None:
        super().__init__(reason)
        self.paste = paste


def variants_of(machine: str) -> dict[str, tuple[str, ...]]:
    """Return the compiler flags of every variant for a processor family as `platform.machine` names it."""
    if machine in ("x86_64", "AMD64"):
        return X86_VARIANTS
    return ARM_VARIANTS if machine in ("aarch64", "arm64") else {"portable": ()}


def find_compiler() -> str:
    """Return the path of the C++ compiler.

    Raises:
        Unavailable: There is none.
    """
    for name in COMPILERS:
        if found := shutil.which(name):
            return found
    raise Unavailable(
        "there is no C++ compiler (looked for c++, g++ and clang++)", INSTALL_COMMANDS.get(platform.system(), "")
    )


def library_name() -> str:
    """Return the file name of the library for this source, these flags and this processor family."""
    key = hashlib.sha256(repr((FLAGS, variants_of(platform.machine()))).encode())
    for path in sorted(SOURCE.iterdir()):
        key.update(path.read_bytes())
    return f"edgeai-{key.hexdigest()[:16]}.so"


def compile_for_this_processor(out: Path) -> None:
    """Compile the library with all variants of this processor family; the file appears only when it is complete.

    Raises:
        Unavailable: There is no compiler, it fails, or the folder cannot be written.
    """
    compiler = find_compiler()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:
            scratch = Path(folder)
            compile_library(compiler, variants_of(platform.machine()), scratch, scratch / out.name)
            (scratch / out.name).replace(out)
    except OSError as error:
        raise Unavailable(f"the compiled library cannot be written to {out.parent}: {error}") from error


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
    variants = {name: flags for name, flags in variants.items() if not flags or _accepts(compiler, flags)}
    has = tuple(f"-DEDGEAI_HAS_{name.upper()}" for name in variants)
    jobs = [(scratch / f"{name}.o", "variant.cpp", flags) for name, flags in variants.items()]
    jobs += [(scratch / f"{name}.o", f"{name}.cpp", ()) for name in ("pack", "unpack", "quantize", "team")]
    jobs.append((scratch / "api.o", "api.cpp", has))
    commands = [
        [compiler, *FLAGS, *extra, *flags, "-c", str(SOURCE / source), "-o", str(to)] for to, source, flags in jobs
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_run, commands))
    _run([compiler, "-shared", "-pthread", *extra, *(str(to) for to, *_ in jobs), "-o", str(out)])


def _accepts(compiler: str, flags: tuple[str, ...]) -> bool:
    """Whether a compiler knows these flags."""
    with contextlib.suppress(OSError):
        probe = [compiler, *flags, "-fsyntax-only", "-x", "c++", os.devnull]
        return not subprocess.run(probe, capture_output=True, check=False).returncode
    return False


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Unavailable(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or [""]
        raise Unavailable(f"{command[0]} cannot compile the native runtime: {lines[0]}")
