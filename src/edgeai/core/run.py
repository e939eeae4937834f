"""Run directories: config, environment, metrics and outcome of a run.

config.yaml    the resolved config; reads back identical
run.json       argv, versions, device and why, threads, seed, git SHA, status, times
metrics.jsonl  one line per logged step; events.out.* is the same for TensorBoard
log.txt        every note
report.json    the outcome, written at the end
"""

import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from edgeai import __version__
from edgeai.core.config import Config, dump_config, verb_of
from edgeai.core.errors import UsageError
from edgeai.core.files import json_text, write_whole
from edgeai.core.metrics import Listener, Metrics

Status = Literal["done", "failed", "interrupted"]
PACKAGES = ("torch", "transformers", "flwr", "numpy", "safetensors", "pydantic")


class Run:
    """A run directory and its metrics. Construct it with `Run.create` or `Run.open`."""

    def __init__(self, path: Path, info: dict[str, Any], metrics: Metrics) -> None:
        self.path = path
        self.info = info
        self.metrics = metrics

    @classmethod
    def create(
        cls,
        cfg: Config,
        *,
        out: Path | None,
        argv: Sequence[str],
        device: str,
        device_why: str,
        threads: int | None = None,
        listener: Listener | None = None,
    ) -> "Run":
        """Create a run directory with config.yaml and run.json.

        Args:
            cfg: Config of a verb.
            out: Run directory, or None for runs/<verb>-<time>.
            argv: Command line.
            device: torch device, such as "cpu" or "cuda:0".
            device_why: Reason for the choice of the device.
            threads: Number of CPU threads in use.
            listener: Receives progress, notes and metrics.

        Raises:
            UsageError: `out` already holds a run, or cannot be made.
        """
        verb = verb_of(type(cfg))
        path = _new_folder(out, verb)
        info = {
            "verb": verb,
            "argv": list(argv),
            "status": "running",
            "started": _now(),
            "finished": None,
            "device": device,
            "device_why": device_why,
            "threads": threads,
            "seed": cfg.model_dump().get("seed"),
            "git": _git_sha(),
            "versions": _versions(),
            "platform": platform.platform(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process_start": process_start(os.getpid()),
        }
        write_whole(path / "config.yaml", dump_config(cfg))
        write_whole(path / "run.json", json_text(info) + "\n")
        return cls(path, info, Metrics(path, listener=listener))

    @classmethod
    def open(cls, path: Path, *, listener: Listener | None = None) -> "Run":
        """Open an existing run directory, to read it or to continue the run.

        Raises:
            UsageError: The folder is not a run directory.
        """
        try:
            info = json.loads((path / "run.json").read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            raise UsageError(
                f"{path} is not a run directory: it has no readable run.json", hint="list them: edgeai runs list"
            ) from None
        return cls(path, info, Metrics(path, listener=listener))

    @property
    def config_path(self) -> Path:
        """The resolved config, for `load_config`."""
        return self.path / "config.yaml"

    @property
    def device(self) -> str:
        """Torch device of the run."""
        return str(self.info["device"])

    @property
    def status(self) -> str:
        """running, done, failed, interrupted, or killed (recorded as running, but its process here is gone)."""
        status = str(self.info["status"])
        here = self.info["host"] == socket.gethostname()
        return "killed" if status == "running" and here and not self._has_process() else status

    def go_on(self, argv: Sequence[str], *, device: str, device_why: str, threads: int | None = None) -> None:
        """Mark an opened run as running again in this process, possibly on another device.

        Raises:
            UsageError: Another process on this host is still running it; both would write the same files.
        """
        if self.status == "running" and self.info["host"] == socket.gethostname() and self.info["pid"] != os.getpid():
            raise UsageError(
                f"{self.path} is still running, as process {self.info['pid']}", hint="wait for it, or stop it first"
            )
        self.info.setdefault("resumed", []).append({"argv": list(argv), "at": _now()})
        self._update(
            status="running",
            finished=None,
            device=device,
            device_why=device_why,
            threads=threads,
            host=socket.gethostname(),
            pid=os.getpid(),
            process_start=process_start(os.getpid()),
        )

    def finish(self, status: Status, report: Mapping[str, Any] | None = None) -> None:
        """Write report.json (if there is a report) and the status, and close the metrics."""
        if report is not None:
            write_whole(self.path / "report.json", json_text(report) + "\n")
        self._update(status=status, finished=_now())
        self.metrics.close()

    def report(self) -> dict[str, Any] | None:
        """Read report.json; None while there is none."""
        path = self.path / "report.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def _has_process(self) -> bool:
        """Whether the process that runs this still exists; another one may have its number by now."""
        recorded, found = self.info.get("process_start"), process_start(self.info["pid"])
        return is_alive(self.info["pid"]) and (recorded is None or found is None or recorded == found)

    def _update(self, **changes: Any) -> None:
        self.info.update(changes)
        write_whole(self.path / "run.json", json_text(self.info) + "\n")


def find_runs(root: Path) -> list[Run]:
    """Return the runs directly below `root`, newest first; other folders are skipped."""
    runs = []
    for path in root.glob("*/run.json"):
        try:
            runs.append(Run.open(path.parent))
        except UsageError:
            continue
    return sorted(runs, key=lambda run: str(run.info["started"]), reverse=True)


def _new_folder(out: Path | None, verb: str) -> Path:
    if out is not None and (out / "run.json").exists():
        raise UsageError(f"{out} already holds a run", hint=f"continue it with --resume {out}, or choose another --out")
    stem = Path("runs") / f"{verb.replace(' ', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = out or stem, 1
    while True:
        try:
            path.mkdir(parents=True, exist_ok=out is not None)
            return path
        except FileExistsError:
            if out is not None:
                raise UsageError(f"{out} is a file, not a folder") from None
            number += 1
            path = stem.with_name(f"{stem.name}-{number}")
        except OSError as error:
            raise UsageError(f"cannot create {path}: {error.strerror}", hint="choose another --out") from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"edgeai": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _git_sha() -> str | None:
    """The commit this code runs from, "-dirty" appended if changed; None for an installed wheel."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def is_alive(pid: int) -> bool:
    """Return whether a process of this host exists; on Windows, where the check would end it, returns True."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def process_start(pid: int) -> str | None:
    """Return what distinguishes a process from others that had or will have its number; None where it is unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return f"{boot}:{fields[19]}"  # in clock ticks since the start of the machine
    except (OSError, IndexError):
        return None
