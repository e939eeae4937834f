"""Runs on Flower: chooses the engine and the way to the devices, and trains as in one process."""

from __future__ import annotations

from dataclasses import replace

import torch
from flwr.serverapp import Grid

from edgeai.core.run import Run
from edgeai.fedsplit.config.backend import FlowerConfig, FlowerSimConfig
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.flower.deployment import run_on_deployment
from edgeai.fedsplit.flower.device import config_text
from edgeai.fedsplit.flower.flower_devices import FlowerDevices
from edgeai.fedsplit.flower.simulation import on_ray
from edgeai.fedsplit.flower.transport.courier import ONCE_A_ROUND
from edgeai.fedsplit.flower.transport.message_courier import MessageCourier
from edgeai.fedsplit.flower.transport.roster import Roster
from edgeai.fedsplit.flower.transport.wire_report import write_wire
from edgeai.fedsplit.reports.run_report import SimReport
from edgeai.fedsplit.sim.build import build_sim
from edgeai.fedsplit.sim.train import train

_SIM_LOOK_S = 0.002


def run_on_flower(cfg: SimConfig, run: Run, *, resume: bool) -> SimReport:
    """Trains as the config says, with devices on Flower; see `simulate`."""
    if isinstance(cfg.backend, FlowerSimConfig):
        backend = cfg.backend
        return on_ray(backend, cfg.num_clients, lambda grid, _: train_on_ray(cfg, backend, run, grid, resume=resume))
    assert isinstance(cfg.backend, FlowerConfig)
    return run_on_deployment(cfg, cfg.backend, run, resume=resume)


def train_on_ray(cfg: SimConfig, backend: FlowerSimConfig, run: Run, grid: Grid, *, resume: bool = False) -> SimReport:
    roster = Roster(grid, cfg.num_clients, interval_s=_SIM_LOOK_S, patience_s=backend.silence_s)
    roster.wait_for(cfg.num_clients)
    courier = MessageCourier(
        grid,
        roster,
        config_text(cfg),
        threads=backend.threads or torch.get_num_threads(),
        interval_s=_SIM_LOOK_S,
        silence_s=backend.silence_s,
        is_logged=backend.actors > 1,
        is_single=cfg.method.kind in ONCE_A_ROUND,
    )
    sim = build_sim(cfg, run.device)
    devices = FlowerDevices(sim, courier, run.device)
    report = train(replace(sim, devices=devices), run, resume=resume)
    write_wire(run, courier.traffic, report)
    return report
