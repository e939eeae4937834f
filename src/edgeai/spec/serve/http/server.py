"""`edgeai spec serve`: listen, serve, and end well."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import uvicorn

from edgeai.core.errors import EdgeAIError
from edgeai.core.run import Run
from edgeai.spec.config.serve import ServeConfig
from edgeai.spec.serve.build import Parts, build_parts
from edgeai.spec.serve.engine.engine import Engine
from edgeai.spec.serve.http.api import build_app
from edgeai.spec.serve.http.metrics import ServerMetrics
from edgeai.spec.serve.reports import ServeReport

_SWITCH_S = 5e-4  # how long the event loop may keep the engine's thread from its next call into torch


class Server(uvicorn.Server):
    """Drains on the first SIGTERM or Ctrl-C, stops at the second, and leaves the exit code to the caller."""

    def __init__(self, config: uvicorn.Config, engine: Engine) -> None:
        super().__init__(config)
        self._engine = engine

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn; there, signals are raised again in the end, which would kill the process."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn."""
        self._engine.drain()
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True


def run_serve(cfg: ServeConfig, run: Run, *, api_key: str = "") -> ServeReport:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        cfg: What to serve, and where.
        run: Names the device; its log tells the address.
        api_key: What clients must send; empty lets all in.

    Raises:
        EdgeAIError: The model cannot be loaded, or the address is taken.
    """
    listening = _bind(cfg.host, cfg.port)
    with listening:
        parts = build_parts(cfg, device=run.info["device"], metrics=run.metrics)
        url = f"http://{cfg.host}:{listening.getsockname()[1]}"
        plan = parts.plan
        if plan.slots < plan.slots_asked:
            run.metrics.note(f"kv_budget_mib holds {plan.slots} of {plan.slots_asked} slots of {plan.context} tokens")
        run.metrics.note(
            f"serving {plan.name} ({plan.dtype}, drafter {plan.drafter}): {plan.slots} slots of {plan.context} tokens, "
            f"{plan.kv_bytes / 2**20:.0f} MiB of keys and values"
        )
        if not api_key and cfg.host not in ("127.0.0.1", "::1", "localhost"):
            run.metrics.note(f"listening at {cfg.host} without an API key: whoever reaches it may use it")
        begin_s = time.monotonic()
        metrics, engine = build_engine(cfg, parts)
        app = build_app(
            engine,
            parts.served,
            metrics,
            max_body_bytes=cfg.max_body_bytes,
            api_key=api_key,
            on_prompt=run.metrics.note if cfg.log_prompts else None,
        )
        server = Server(uvicorn_config(app, cfg), engine)
        switch_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        engine.start()
        run.metrics.note(f"listening at {url}; the API is at {url}/v1, a chat page at {url}; Ctrl-C ends it")
        try:
            server.run(sockets=[listening])
        finally:
            engine.close()
            sys.setswitchinterval(switch_s)
    return ServeReport(url=url, uptime_s=time.monotonic() - begin_s, **metrics.totals())


def build_engine(cfg: ServeConfig, parts: Parts) -> tuple[ServerMetrics, Engine]:
    """The engine, not started, and what observes it."""
    metrics = ServerMetrics(kv_bytes=parts.plan.kv_bytes, num_slots=parts.plan.slots)
    engine = Engine(
        parts.target,
        parts.drafts,
        parts.policy,
        num_slots=parts.plan.slots,
        context=parts.plan.context,
        queue=cfg.queue,
        prompt_chunk=cfg.prompt_chunk,
        observer=metrics,
    )
    return metrics, engine


def uvicorn_config(app: Any, cfg: ServeConfig) -> uvicorn.Config:
    """How uvicorn serves: quiet, one process, no names of software in the headers."""
    return uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        ws="none",
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=max(1, round(cfg.drain_s)),
    )


def _bind(host: str, port: int) -> socket.socket:
    """Take the address before the model is loaded.

    Raises:
        EdgeAIError: It cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise EdgeAIError(
            f"cannot listen at {host}:{port}: {error.strerror or error}",
            hint="choose another address with -s host=... or port with -s port=..., 0 for any free one",
        ) from error
    return listening
