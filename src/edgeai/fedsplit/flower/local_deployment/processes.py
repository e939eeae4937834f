"""The processes of a deployment, identified by an environment variable.

Flower's programs start others, some in sessions of their own, which survive when their parent is killed. Every process
of a home inherits the variable with the home's path, so all of them can be found and ended.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

_MARK = "EDGEAI_FLOWER_HOME"


def environment(path: Path) -> dict[str, str]:
    """Return the environment for the processes of a home."""
    programs = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",
        "FLWR_HOME": str(path / "flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PYTHONUNBUFFERED": "1",
        _MARK: str(path.resolve()),
    }


def own_home() -> Path | None:
    """Return the home that this process belongs to, or None."""
    found = os.environ.get(_MARK)
    return None if found is None else Path(found)


def marked(path: Path) -> list[int]:
    """Return the ids of a home's running processes, without this process."""
    mark = f"{_MARK}={path.resolve()}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def is_gone(pid: int) -> bool:
    """Return whether a process has ended.

    `marked` cannot tell: the environment of a process is unreadable while the process starts.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in ("Z", "X")


def end_all(path: Path) -> int:
    """End every process of a home; return their number."""
    ended = set()
    for sent, wait_s in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
        until_s = time.monotonic() + wait_s
        while time.monotonic() < until_s and (found := marked(path)):
            for pid in found:
                if pid not in ended or sent is signal.SIGKILL:
                    ended.add(pid)
                    kill(pid, sent)
            time.sleep(0.1)
    return len(ended)


def kill(pid: int, sent: signal.Signals) -> None:
    """Send a signal to a process, which may have ended already."""
    try:
        os.kill(pid, sent)
    except ProcessLookupError:
        return
    try:
        os.waitpid(pid, os.WNOHANG)  # reap it if it is a child of this process
    except ChildProcessError:
        return
