"""`edgeai doctor`: is this machine ready, and what to paste if not."""

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from edgeai.commands.render.text import amount, print_json, print_table
from edgeai.commands.shared.options import JsonOption
from edgeai.core import assets
from edgeai.core.run import PACKAGES

_NEEDED_DISK_BYTES = 2e9
_NEEDED_MEMORY_BYTES = 4e9


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    ok: bool
    found: str
    paste: str = ""
    """What to do if not ok."""


def doctor(as_json: JsonOption = False) -> None:
    """Say whether this machine is ready, and what to paste if not; exit 1 if not."""
    checks = [check_python(), *check_packages(), *check_torch(), check_memory(), check_disk(), check_pip()]
    cached = {name: assets.where(name) for name in assets.ASSETS}
    ready = all(check.ok for check in checks)
    if as_json:
        print_json({"ready": ready, "checks": [asdict(check) for check in checks], "assets": cached})
    else:
        rows = [["ok" if check.ok else "NOT OK", check.name, check.found] for check in checks]
        for name, path in cached.items():
            rows.append(["-", f"asset {name}", str(path or f"not cached: edgeai assets fetch {name}")])
        print_table(["", "what", "found"], rows)
        print("\nready" if ready else "\nnot ready; paste:")
        print("\n".join(check.paste for check in checks if not check.ok), end="" if ready else "\n")
    if not ready:
        raise typer.Exit(1)


def check_python() -> Check:
    """Looks at the Python version: the dependencies have wheels for 3.11 to 3.13."""
    ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Check(
        "python",
        ok,
        f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "make clean && make demo PYTHON=python3.12",
    )


def check_packages() -> list[Check]:
    """Looks for the packages edgeai stands on, by metadata alone."""
    checks = []
    for package in PACKAGES:
        try:
            found, ok = importlib.metadata.version(package), True
        except importlib.metadata.PackageNotFoundError:
            found, ok = "missing", False
        checks.append(Check(package, ok, found, f"pip install -c constraints.txt {package}"))
    return checks


def check_torch() -> list[Check]:
    """Imports torch and times bfloat16."""
    if importlib.util.find_spec("torch") is None:
        return []  # told by check_packages
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


def check_memory() -> Check:
    """Looks at the physical memory; training the demo's head peaks below 4 GB."""
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
    """Looks at the room where models are kept."""
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
    """Looks for pip in this environment: assets are fetched with it."""
    ok = importlib.util.find_spec("pip") is not None
    return Check("pip", ok, importlib.metadata.version("pip") if ok else "missing", f"{sys.executable} -m ensurepip")
