"""`edgeai doctor`: check the environment and suggest fixes."""

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from edgeai.commands.render.text import print_json, print_table
from edgeai.commands.shared.options import JsonOption
from edgeai.core import assets
from edgeai.core.requirements import EXTRAS, install_command, missing, name_of, requirements
from edgeai.core.units import amount

_NEEDED_DISK_BYTES = 2e9
_NEEDED_MEMORY_BYTES = 4e9
_WEIGHT_BYTES = 100_000_000
"""Size of a small model's weights: the bandwidth depends on whether they fit the caches."""


@dataclass(frozen=True)
class Check:
    """One requirement of this machine and its state."""

    name: str
    ok: bool
    found: str
    paste: str = ""
    """Command to run if not ok."""
    is_needed: bool = True
    """False if edgeai runs without it."""


@dataclass(frozen=True)
class AreaState:
    """Whether the packages of one extra are installed."""

    name: str
    missing: tuple[str, ...]
    """Distributions that are not installed."""
    paste: str
    """Command that installs them."""


def doctor(as_json: JsonOption = False) -> None:
    """Check the environment and suggest fixes; exit 1 if edgeai cannot run here.

    An area whose packages are not installed is listed with the command that installs it, and is no failure; nor is a
    missing native runtime, without which spec computes with torch.
    """
    checks = [check_python(), *check_packages(), *check_torch(), *check_native()]
    checks += [check_memory(), check_disk(), check_pip()]
    areas = check_areas()
    cached = {name: assets.where(name) for name in assets.ASSETS}
    ready = all(check.ok for check in checks if check.is_needed)
    if as_json:
        document = {"ready": ready, "checks": [asdict(check) for check in checks]}
        print_json({**document, "areas": [asdict(area) for area in areas], "assets": cached})
    else:
        _print_table(checks, areas, cached)
        print("\nready" if ready else "\nnot ready; paste:")
        pastes = [check.paste for check in checks if check.is_needed and not check.ok]
        print("\n".join(pastes), end="" if ready else "\n")
    if not ready:
        raise typer.Exit(1)


def _print_table(checks: Sequence[Check], areas: Sequence[AreaState], cached: Mapping[str, Path | None]) -> None:
    rows = []
    for check in checks:
        state = "ok" if check.ok else "NOT OK" if check.is_needed else "-"
        to_paste = f"; {check.paste}" if check.paste and not check.ok and not check.is_needed else ""
        rows.append([state, check.name, f"{check.found}{to_paste}"])
    for area in areas:
        found = f"not installed: {', '.join(area.missing)}; {area.paste}" if area.missing else "ready"
        rows.append(["-" if area.missing else "ok", f"edgeai[{area.name}]", found])
    for name, path in cached.items():
        rows.append(["-", f"asset {name}", str(path or f"not cached: edgeai assets fetch {name}")])
    print_table(["", "what", "found"], rows)


def check_python() -> Check:
    """Check the Python version: the dependencies have wheels for 3.11 to 3.13."""
    ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Check(
        "python",
        ok,
        f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "make clean && make demo PYTHON=python3.12",
    )


def check_packages() -> list[Check]:
    """Look up the packages that every area needs, by their metadata alone."""
    try:
        needed = requirements("core")
    except importlib.metadata.PackageNotFoundError:
        return [Check("edgeai", False, "run from its source folder, not installed", "pip install -e .")]
    checks = []
    for requirement in needed:
        package = name_of(requirement)
        try:
            found, ok = importlib.metadata.version(package), True
        except importlib.metadata.PackageNotFoundError:
            found, ok = "missing", False
        checks.append(Check(package, ok, found, f"pip install '{requirement}'"))
    return checks


def check_areas() -> list[AreaState]:
    """Look up the packages of each area; empty where edgeai itself is not installed."""
    try:
        return [AreaState(name, missing(name), install_command(name)) for name in EXTRAS if name != "core"]
    except importlib.metadata.PackageNotFoundError:
        return []


def check_torch() -> list[Check]:
    """Import torch, choose the device and time bfloat16."""
    if importlib.util.find_spec("torch") is None:
        return []  # check_packages reports it
    import torch

    from edgeai.core.device import bf16_gain, choose_device, num_cores

    kind = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    device = choose_device("auto")
    gain = bf16_gain()
    return [
        Check("device", True, f"{device.torch_device} ({device.why}); torch is a {kind}"),
        Check("cores", True, f"{num_cores()} usable, torch uses {device.threads} threads"),
        Check("bfloat16", True, f"{gain:.2f} times as fast as float32 on this CPU"),
    ]


def check_native() -> list[Check]:
    """Load the native runtime of spec; compiles it if this machine has not done so yet."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("numpy") is None:
        return []  # check_packages reports it
    from edgeai.core.device import num_cores
    from edgeai.spec.target.native import library as native
    from edgeai.spec.target.native.bandwidth import read_bandwidth_bps
    from edgeai.spec.target.native.compilation import Unavailable

    try:
        library = native.load_library()
    except Unavailable as error:
        found = f"{error}; spec computes with torch instead, several times slower"
        return [Check("native runtime", False, found, error.paste, is_needed=False)]
    threads = num_cores()
    speed = amount(read_bandwidth_bps(_WEIGHT_BYTES, threads), "B/s")
    read = f"{threads} threads read {amount(_WEIGHT_BYTES, 'B')} of weights at {speed}"
    return [Check("native runtime", True, f"{library.name} kernels, {library.origin}; {read}", is_needed=False)]


def check_memory() -> Check:
    """Check the free memory; training the demo's head peaks below 4 GB."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return Check("memory", True, "unknown")
    total, free = (
        int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024
        for key in ("MemTotal:", "MemAvailable:")
    )
    found = f"{amount(total, 'B')}, {amount(free, 'B')} free"
    return Check(
        "memory",
        free >= _NEEDED_MEMORY_BYTES,
        found,
        f"# close programs until {amount(_NEEDED_MEMORY_BYTES, 'B')} are free",
    )


def check_disk() -> Check:
    """Check the free disk space of the model cache."""
    folder = assets.cache_dir()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    return Check(
        "disk for the cache",
        free >= _NEEDED_DISK_BYTES,
        f"{amount(free, 'B')} free in {folder}",
        f"export EDGEAI_CACHE=/a/larger/disk  # {amount(_NEEDED_DISK_BYTES, 'B')} free",
    )


def check_pip() -> Check:
    """Check that this environment has pip, with which assets are fetched."""
    ok = importlib.util.find_spec("pip") is not None
    return Check("pip", ok, importlib.metadata.version("pip") if ok else "missing", f"{sys.executable} -m ensurepip")
