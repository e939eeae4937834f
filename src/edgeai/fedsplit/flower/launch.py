"""Runs on Flower: choose the engine and the transport, then train as in one process."""

from __future__ import annotations

from dataclasses import replace

import torch
from flwr.serverapp import Grid

from edgeai.core.run import Run
from edgeai.fedsplit.config.backend import FlowerConfig, FlowerSimConfig
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.flower.device import config_text
from edgeai.fedsplit.flower.flower_devices import FlowerDevices
from edgeai.fedsplit.flower.simulation import on_ray
from edgeai.fedsplit.flower.submit import run_on_deployment
from edgeai.fedsplit.flower.transport.client_nodes import ClientNodes
from edgeai.fedsplit.flower.transport.device_transport import ONCE_A_ROUND
from edgeai.fedsplit.flower.transport.message_transport import MessageTransport
from edgeai.fedsplit.flower.transport.wire_report import write_wire
from edgeai.fedsplit.reports.run_report import SimReport
from edgeai.fedsplit.sim.build import build_sim
from edgeai.fedsplit.sim.train import train

_SIM_POLL_S = 0.002


def run_on_flower(cfg: SimConfig, run: Run, *, resume: bool) -> SimReport:
    """Train with the devices on Flower, on the engine that the config names.

    Args:
        cfg: The run's config, with backend flower or flower-sim.
        run: Run directory.
        resume: Continue from the state saved in the run directory.

    Raises:
        EdgeAIError: Flower or Ray is missing, or the run failed.
    """
    if isinstance(cfg.backend, FlowerSimConfig):
        backend = cfg.backend
        return on_ray(backend, cfg.num_clients, lambda grid, _: train_on_ray(cfg, backend, run, grid, resume=resume))
    assert isinstance(cfg.backend, FlowerConfig)
    return run_on_deployment(cfg.backend, run, resume=resume)


def train_on_ray(cfg: SimConfig, backend: FlowerSimConfig, run: Run, grid: Grid, *, resume: bool = False) -> SimReport:
    """Run the server of a training on Flower's simulation engine; see `run_on_flower` for the arguments."""
    nodes = ClientNodes(grid, cfg.num_clients, interval_s=_SIM_POLL_S, patience_s=backend.silence_s)
    nodes.wait_for(cfg.num_clients)
    transport = MessageTransport(
        grid,
        nodes,
        config_text(cfg),
        threads=backend.threads or torch.get_num_threads(),
        interval_s=_SIM_POLL_S,
        silence_s=backend.silence_s,
        is_logged=backend.actors > 1,
        is_single=cfg.method.kind in ONCE_A_ROUND,
    )
    sim = build_sim(cfg, run.device)
    devices = FlowerDevices(sim, transport, run.device)
    report = train(replace(sim, devices=devices), run, resume=resume)
    write_wire(run, transport.traffic, report)
    return report
