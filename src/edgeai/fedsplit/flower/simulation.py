"""Flower's simulation engine: devices on Ray actors, the server in this process."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from edgeai.core.errors import EdgeAIError
from edgeai.fedsplit.config.backend import FlowerSimConfig

T = TypeVar("T")

_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class StoppableGrid:
    """Flower's grid, which raises once the run is stopped; otherwise a ServerApp's thread would keep polling.

    Args:
        grid: Flower's grid.
        stopped: Event set by another thread when the run ends.
    """

    def __init__(self, grid: Grid, stopped: threading.Event) -> None:
        self._grid, self._stopped = grid, stopped

    def __getattr__(self, name: str) -> Any:
        if self._stopped.is_set():
            raise EdgeAIError("the run was stopped")
        return getattr(self._grid, name)


def on_ray(
    cfg: FlowerSimConfig, num_clients: int, work: Callable[[Grid, Context], T], app: ClientApp | None = None
) -> T:
    """Run server code as a ServerApp with simulated SuperNodes; return its result.

    Args:
        cfg: Number of actors and their GPUs.
        num_clients: Number of SuperNodes.
        work: The server code; receives Flower's grid and context.
        app: ClientApp of the devices; None for the one of every run.

    Raises:
        EdgeAIError: Ray is missing, or the engine ended early. Errors of `work` are raised as they are.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise EdgeAIError("backend flower-sim needs Ray", hint='pip install "edgeai[ray]"') from None
    from flwr.simulation import run_simulation

    from edgeai.fedsplit.flower import client_app

    logging.getLogger("flwr").setLevel(logging.ERROR)
    outcome: list[T] = []
    failures: list[BaseException] = []
    stopped = threading.Event()
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            outcome.append(work(StoppableGrid(grid, stopped), context))
        except BaseException as error:
            failures.append(error)

    options = {
        "client_resources": {"num_cpus": 1, "num_gpus": cfg.gpus_per_actor},
        "init_args": {"num_cpus": cfg.actors, "log_to_driver": False, "logging_level": "ERROR"},
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run_simulation(server, app or client_app.app, num_supernodes=num_clients, backend_config=options)
    except Exception as error:
        failures.append(error)
    finally:
        stopped.set()
        if ray.is_initialized():
            ray.shutdown()
    if failures:
        raise failures[0]
    if not outcome:
        raise EdgeAIError("Flower's simulation engine ended before the run did")
    return outcome[0]
