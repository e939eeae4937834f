"""`edgeai spec serve`: bind the address, load the model, serve, and drain on SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn

from edgeai.core.errors import EdgeAIError
from edgeai.core.metrics import Metrics
from edgeai.core.run import Run
from edgeai.core.units import amount
from edgeai.spec.config.serve import ServeConfig
from edgeai.spec.serve.build import build_engine, build_parts
from edgeai.spec.serve.engine.engine import Engine
from edgeai.spec.serve.http.api import build_app
from edgeai.spec.serve.http.metrics import ServerMetrics
from edgeai.spec.serve.reports import ServePlan, ServeReport

_SWITCH_S = 1e-4  # longest time that the event loop delays the next torch call of the engine's thread


class Server(uvicorn.Server):
    """Drains on the first SIGTERM or Ctrl-C, stops at the second, and leaves the exit code to the caller.

    Args:
        config: uvicorn's configuration.
        engine: Engine that drains.
        on_listening: Called once when the server accepts connections and heeds signals; None calls nothing.
    """

    def __init__(
        self, config: uvicorn.Config, engine: Engine, *, on_listening: Callable[[], None] | None = None
    ) -> None:
        super().__init__(config)
        self._engine = engine
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        if self._on_listening is not None:
            self._on_listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn, which would raise the signals again afterwards and thereby kill the process."""
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
        cfg: Model, address and limits.
        run: Run whose log receives the address; also names the device.
        api_key: Key required from clients; empty requires none.

    Raises:
        EdgeAIError: The model cannot be loaded, or the address is in use.
    """
    with _bind(cfg.host, cfg.port) as listening:
        parts = build_parts(cfg, device=run.info["device"], metrics=run.metrics)
        url = f"http://{cfg.host}:{listening.getsockname()[1]}"
        _log_plan(cfg, parts.plan, run.metrics, has_key=bool(api_key))
        begin_s = time.monotonic()
        metrics = ServerMetrics(kv_bytes=parts.plan.kv_bytes, num_slots=parts.plan.slots)
        engine = build_engine(cfg, parts, observer=metrics)
        app = build_app(
            engine,
            parts.served,
            metrics,
            max_body_bytes=cfg.max_body_bytes,
            api_key=api_key,
            cors_origins=cfg.cors_origins,
            on_prompt=run.metrics.note if cfg.log_prompts else None,
        )
        address = f"listening at {url}; the API is at {url}/v1, a chat page at {url}; Ctrl-C ends it"
        server = Server(uvicorn_config(app, cfg), engine, on_listening=lambda: run.metrics.note(address))
        switch_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        engine.start()
        try:
            server.run(sockets=[listening])
        finally:
            engine.close()
            sys.setswitchinterval(switch_s)
    return metrics.report(url=url, uptime_s=time.monotonic() - begin_s)


def _log_plan(cfg: ServeConfig, plan: ServePlan, metrics: Metrics, *, has_key: bool) -> None:
    if plan.slots < plan.slots_asked:
        metrics.note(f"kv_budget_mib holds {plan.slots} of {plan.slots_asked} slots of {plan.context} tokens")
    metrics.note(
        f"serving {plan.name} ({plan.dtype}, drafter {plan.drafter}): {plan.slots} slots of {plan.context} tokens, "
        f"{amount(plan.kv_bytes, 'B')} of keys and values"
    )
    if not has_key and cfg.host not in ("127.0.0.1", "::1", "localhost"):
        metrics.note(f"listening at {cfg.host} without an API key: anyone who can reach it may use it")


def uvicorn_config(app: Any, cfg: ServeConfig) -> uvicorn.Config:
    """Return uvicorn's configuration: errors only in the log, one process, no server header."""
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
    """Bind the address before the model is loaded.

    Raises:
        EdgeAIError: The address cannot be bound.
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
