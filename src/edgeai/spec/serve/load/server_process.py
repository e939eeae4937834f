"""Server process of the load test."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from edgeai.core.config import dump_config
from edgeai.core.errors import EdgeAIError
from edgeai.core.run import Run
from edgeai.spec.config.serve import ServeConfig

_START_S = 1800.0
_STOP_S = 60.0


@dataclass(frozen=True)
class ServerProcess:
    """A running server."""

    url: str
    model: str
    """Name of the served model."""
    pid: int

    def resident_bytes(self) -> int:
        """Return the resident memory of the process; 0 if /proc does not report it."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def server_process(cfg: ServeConfig, run: Run) -> Iterator[ServerProcess]:
    """Run `edgeai spec serve` on a free loopback port and stop it at the end of the block.

    Args:
        cfg: What to serve; host and port are replaced.
        run: Run whose directory receives the server's config, log and run directory.

    Raises:
        EdgeAIError: The server did not start.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config, log = run.path / "serve.yaml", run.path / "server.log"
    config.write_text(dump_config(cfg.model_copy(update={"host": "127.0.0.1", "port": port})), encoding="utf-8")
    command = [sys.executable, "-m", "edgeai", "spec", "serve", "-c", str(config), "--json"]
    command += ["--out", str(run.path / "server"), "--device", run.info["device"]]
    environment = {name: value for name, value in os.environ.items() if name != "EDGEAI_API_KEY"}
    with log.open("w", encoding="utf-8") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env=environment)
    try:
        run.metrics.note(f"starting a server; its log is {log}")
        url = f"http://127.0.0.1:{port}"
        yield ServerProcess(url, _wait_for_model(url, process, log), process.pid)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_model(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until the server answers; returns the model's name."""
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s and process.poll() is None:
        try:
            return str(httpx.get(f"{url}/v1/models", timeout=5.0).json()["data"][0]["id"])
        except httpx.HTTPError:
            time.sleep(0.2)
    raise EdgeAIError("the server did not start", hint=f"see {log}")
