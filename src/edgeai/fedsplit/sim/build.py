"""Builds a run from its config: data, devices, model and method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.config.vertical import FedSLConfig
from edgeai.fedsplit.data.load import load_data
from edgeai.fedsplit.data.samples import Dataset, Samples
from edgeai.fedsplit.methods.build import build_method
from edgeai.fedsplit.methods.method import Method
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.vertical.sequence_chains import split_chains
from edgeai.fedsplit.partition.assign import partition
from edgeai.fedsplit.privacy.protection import Protect, build_protect
from edgeai.fedsplit.protocol.channel import build_ends
from edgeai.fedsplit.protocol.codec.sizes import check_codec
from edgeai.fedsplit.protocol.devices import Devices
from edgeai.fedsplit.protocol.ledger import Ledger
from edgeai.fedsplit.sim.adaptive_cuts import build_policy
from edgeai.fedsplit.sim.client_factory import ClientFactory
from edgeai.fedsplit.sim.cut_policy import CutPolicy
from edgeai.fedsplit.sim.inproc import InProcess
from edgeai.fedsplit.sim.model_checks import check_last_batches
from edgeai.fedsplit.sim.setup import build_setup
from edgeai.fedsplit.world.clock import Clock
from edgeai.fedsplit.world.world import World, build_world


@dataclass(frozen=True)
class Sim:
    """A run that is ready to start."""

    cfg: SimConfig
    dataset: Dataset
    clients: tuple[Samples, ...]
    """Training samples of each client."""
    setup: Setup
    method: Method
    world: World
    protects: tuple[Protect | None, ...]
    """Protection of each client."""
    clock: Clock
    ledger: Ledger
    devices: Devices
    policy: CutPolicy | None = None
    """Policy that chooses the cuts before each round; None if they are fixed."""


def build_sim(cfg: SimConfig, device: str = "cpu") -> Sim:
    """Load the data and build a run with in-process devices.

    Args:
        cfg: Config of the run.
        device: Torch device of all tensors.

    Raises:
        UsageError: Data, partition, model, cut, codec or world are not usable.
        EdgeAIError: A package that the config needs is not installed.
    """
    dataset = load_data(cfg.data)
    return assemble(cfg, dataset, partition(dataset, cfg.partition, cfg.num_clients, cfg.seed), device)


def assemble(cfg: SimConfig, dataset: Dataset, clients: Sequence[Samples], device: str = "cpu") -> Sim:
    """Build a run on data that are already loaded and partitioned; see `build_sim`.

    Args:
        cfg: Config of the run.
        dataset: Whole data set.
        clients: Training samples of each client.
        device: Torch device of all tensors.
    """
    if isinstance(cfg.method, FedSLConfig):
        clients = split_chains(clients, cfg.method.segments)
    clients = tuple(_on_device(part, device) for part in clients)
    dataset = replace(dataset, test=_on_device(dataset.test, device))
    world = build_world(cfg.world, cfg.num_clients, cfg.seed)
    setup = build_setup(cfg, dataset, clients, world, device)
    policy = build_policy(cfg, setup)
    if policy is not None:
        setup = replace(setup, positions=policy.choose(1))
    for position in setup.distinct_positions:
        check_codec(cfg.codec, setup.model.shape_at(position))
    check_last_batches(setup.model, setup.num_samples, cfg.batch)
    method = build_method(setup)
    clock, ledger = Clock(world, cfg.seed), Ledger()
    protects = tuple(
        build_protect(cfg.privacy, cfg.seed, client, num_classes=dataset.num_classes)
        for client in range(cfg.num_clients)
    )
    devices = InProcess(
        ClientFactory(cfg, method, clients, protects),
        [build_ends(cfg.codec, cfg.seed, client) for client in range(cfg.num_clients)],
        clock,
        ledger,
    )
    return Sim(cfg, dataset, clients, setup, method, world, protects, clock, ledger, devices, policy)


def _on_device(samples: Samples, device: str) -> Samples:
    return Samples(samples.x.to(device), samples.y.to(device))
