"""The native code by itself, on random models: under sanitizers, and on an ARM processor under emulation."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from edgeai.spec.target.native import compilation

DRIVER = Path(__file__).parent / "driver.cpp"
CROSS, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")


def build(folder: Path, compiler: str, machine: str, *extra: str) -> Path:
    """Compile all variants of a processor family into one library, and the driver against it."""
    out = folder / "libedgeai.so"
    compilation.compile_library(compiler, compilation.variants_of(machine), folder, out, extra)
    driver = folder / "driver"
    command = [
        compiler,
        *compilation.FLAGS,
        *extra,
        f"-I{compilation.SOURCE}",
        str(DRIVER),
        str(out),
        "-o",
        str(driver),
    ]
    subprocess.run([*command, f"-Wl,-rpath,{folder}"], check=True)
    return driver


def run(command: list[str], first: int, count: int) -> list[str]:
    done = subprocess.run([*command, str(first), str(count)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    assert len(done.stdout.splitlines()) == count + 1
    return done.stdout.splitlines()


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(("sanitizers", "seeds"), [("address,undefined", 25), ("thread", 3)])
def test_random_models_under_sanitizers(sanitizers: str, seeds: int, tmp_path: Path) -> None:
    """No access out of bounds, undefined behavior or race, and equal bits on every variant with 1 to 3 threads."""
    flags = ("-O1", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-g")
    driver = build(tmp_path, "c++", platform.machine(), *flags)
    run([str(driver)], 0, seeds)


@needs_compiler
def test_threads_share_phases_without_races(tmp_path: Path) -> None:
    """Every unit of a phase is computed once and before the next phase, though threads are late or held up."""
    driver, source = tmp_path / "team", compilation.SOURCE
    command = ["c++", *compilation.FLAGS, "-O1", "-g", "-fsanitize=thread", f"-I{source}"]
    subprocess.run(
        [*command, str(DRIVER.with_name("team.cpp")), str(source / "team.cpp"), "-o", str(driver)], check=True
    )
    done = subprocess.run([str(driver)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert int(done.stdout) > 1000


@needs_compiler
@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which(CROSS) and shutil.which(EMULATOR)), reason=f"needs {CROSS} and {EMULATOR} (Debian: qemu-user)"
)
def test_arm_gives_the_same_bits(tmp_path: Path) -> None:
    """NEON and portable code, compiled for ARM and emulated, agree to the bit with this processor's variants."""
    here, arm = tmp_path / "here", tmp_path / "arm"
    for folder in (here, arm):
        folder.mkdir()
    emulated = [EMULATOR, "-L", "/usr/aarch64-linux-gnu", str(build(arm, CROSS, "aarch64"))]
    lines = run(emulated, 1000, 4)
    assert lines[-1].split() == ["portable", "neon"]
    assert lines[:-1] == run([str(build(here, "c++", platform.machine()))], 1000, 4)[:-1]
