"""The server side of a run on Flower's deployment engine, in the ServerApp's process.

Exported Flower apps import `train_on_grid` from this module.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from flwr.serverapp import Grid

from edgeai.core.errors import UsageError
from edgeai.core.run import Run
from edgeai.fedsplit.config.backend import FlowerConfig
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.flower.device import config_text
from edgeai.fedsplit.flower.flower_devices import FlowerDevices
from edgeai.fedsplit.flower.local_deployment.home import LOOPBACK, Home
from edgeai.fedsplit.flower.local_deployment.processes import own_home
from edgeai.fedsplit.flower.retry import RetryingRounds
from edgeai.fedsplit.flower.transport.client_nodes import ClientNodes
from edgeai.fedsplit.flower.transport.device_transport import ONCE_A_ROUND, DeviceTransport, Traffic
from edgeai.fedsplit.flower.transport.message_transport import MessageTransport
from edgeai.fedsplit.flower.transport.stream_service import Certificate, StreamService
from edgeai.fedsplit.flower.transport.stream_transport import ServiceAddress, StreamTransport
from edgeai.fedsplit.flower.transport.wire_report import write_wire
from edgeai.fedsplit.reports.run_report import SimReport
from edgeai.fedsplit.sim.build import build_sim
from edgeai.fedsplit.sim.train import train

_POLL_S = 0.1


def transport_kind(cfg: SimConfig, backend: FlowerConfig) -> str:
    """Return the transport of a run, "message" or "stream"."""
    if backend.transport != "auto":
        return backend.transport
    return "message" if cfg.method.kind in ONCE_A_ROUND else "stream"


def new_nodes(cfg: SimConfig, grid: Grid) -> ClientNodes:
    """Return the table of a run's SuperNodes, still empty."""
    assert isinstance(cfg.backend, FlowerConfig)
    return ClientNodes(grid, cfg.num_clients, interval_s=_POLL_S, patience_s=cfg.backend.start_s)


def train_on_grid(
    cfg: SimConfig, run: Run, grid: Grid, *, resume: bool, owner: int = 0, nodes: ClientNodes | None = None
) -> SimReport:
    """Run the server of a training in the ServerApp.

    Args:
        cfg: The run's config, with backend flower.
        run: Run directory.
        grid: Flower's grid.
        resume: Continue from the state saved in the run directory.
        owner: Process that submitted the run; the run ends when that process is gone. 0: no such process.
        nodes: SuperNodes known from an earlier run, which need not be asked for their client number again.

    Raises:
        EdgeAIError: Too few SuperNodes connect, or the training fails.
    """
    backend = cfg.backend
    assert isinstance(backend, FlowerConfig)
    nodes = nodes or new_nodes(cfg, grid)
    nodes.wait_for(cfg.num_clients, at_least=backend.min_nodes)
    sim = build_sim(cfg, run.device)
    service: StreamService | None = None
    transport: DeviceTransport
    if transport_kind(cfg, backend) == "message":
        transport = _message_transport(cfg, backend, grid, nodes)
    else:
        transport, service = _stream_transport(cfg, backend, grid, nodes)
    run.metrics.note(f"{len(nodes.node_of)} devices, transport {transport.traffic.by}")
    sim = replace(sim, devices=FlowerDevices(sim, transport, run.device))
    try:
        report = train(sim, run, resume=resume, play=RetryingRounds(run, backend, owner))
    finally:
        if service is not None:
            service.close()
    write_wire(run, transport.traffic, report)
    run.metrics.close()
    return report


def _message_transport(cfg: SimConfig, backend: FlowerConfig, grid: Grid, nodes: ClientNodes) -> MessageTransport:
    return MessageTransport(
        grid,
        nodes,
        config_text(cfg),
        threads=backend.threads or torch.get_num_threads(),
        interval_s=_POLL_S,
        silence_s=backend.silence_s + backend.start_s,
        is_logged=True,
        is_single=cfg.method.kind in ONCE_A_ROUND,
    )


def _stream_transport(
    cfg: SimConfig, backend: FlowerConfig, grid: Grid, nodes: ClientNodes
) -> tuple[StreamTransport, StreamService]:
    """Start the gRPC service; return the transport and the service, which the caller closes."""
    home, traffic = Home.open(own_home() or backend.home), Traffic()
    if home.certificate is None and backend.stream_host not in LOOPBACK:
        raise UsageError(
            f"streams on {backend.stream_host} without TLS are readable by anyone on the network",
            hint="edgeai fedsplit up --self-signed",
        )
    certificate = None
    if home.certificate is not None:
        certificate = Certificate(Path(str(home.key)), Path(home.certificate))
    service = StreamService(
        backend.stream_host,
        backend.stream_port,
        cfg.num_clients,
        chunk_bytes=backend.chunk_bytes,
        traffic=traffic,
        certificate=certificate,
    )
    root = Path(home.root).read_text(encoding="utf-8") if home.root else ""
    transport = StreamTransport(
        grid,
        nodes,
        config_text(cfg),
        service,
        ServiceAddress(f"{backend.stream_host}:{service.port}", root),
        traffic,
        threads=backend.threads or torch.get_num_threads(),
        chunk_bytes=backend.chunk_bytes,
        silence_s=backend.silence_s,
        start_s=backend.start_s,
    )
    return transport, service
