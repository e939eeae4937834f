"""The processes of a deployment, found by a mark in their environment and ended by it.

Flower's programs start others, some of them in sessions of their own, and leave them behind when they are killed. Every
process of a home carries the home's mark; whoever carries it is ended.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

_MARK = "EDGEAI_FLOWER_HOME"


def environment(path: Path) -> dict[str, str]:
    """Of every process of a home."""
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
    """The home that this process belongs to."""
    found = os.environ.get(_MARK)
    return None if found is None else Path(found)


def marked(path: Path) -> list[int]:
    """Living processes of a home, this one left out."""
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
    """Whether a process has ended. Its mark would not tell: it cannot be read while the process is being made."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in ("Z", "X")


def end_all(path: Path) -> int:
    """Ends every process of a home; returns how many there were."""
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
    """Sends a signal to a process that may be gone by now."""
    try:
        os.kill(pid, sent)
    except ProcessLookupError:
        return
    try:
        os.waitpid(pid, os.WNOHANG)  # if it is ours, leave no zombie
    except ChildProcessError:
        return
