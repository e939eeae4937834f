"""Everything that a run needs, built from its config: data, devices, model, method."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.data import VerticalPartitionConfig
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.config.vertical import FedSLConfig
from edgeai.fedsplit.cuts.adaptive import CutPolicy, build_policy
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.data.load import load_data
from edgeai.fedsplit.data.samples import Dataset, Samples
from edgeai.fedsplit.methods.build import build_method
from edgeai.fedsplit.methods.method import Method
from edgeai.fedsplit.methods.setup import ClientInputs, Setup
from edgeai.fedsplit.methods.vertical.sequence_chains import deal_segments
from edgeai.fedsplit.models.build import build_model
from edgeai.fedsplit.partition.partition import partition
from edgeai.fedsplit.partition.views import vertical_inputs
from edgeai.fedsplit.privacy.protection import Protect, build_protect
from edgeai.fedsplit.protocol.channel import build_ends
from edgeai.fedsplit.protocol.client_half import ClientContext, ClientHalf, State
from edgeai.fedsplit.protocol.codec.sizes import check_codec
from edgeai.fedsplit.protocol.devices import Devices
from edgeai.fedsplit.protocol.ledger import Ledger
from edgeai.fedsplit.sim.inproc import InProcess
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
    clock: Clock
    ledger: Ledger
    devices: Devices
    policy: CutPolicy | None = None
    """Chooses the cuts before each round, where they change."""


def build_sim(cfg: SimConfig, device: str = "cpu") -> Sim:
    """Builds a run.

    Args:
        cfg: All of it.
        device: Where tensors live, as torch calls it.

    Raises:
        UsageError: Data, partition, model, cut, codec or world cannot be used.
        EdgeAIError: A package is missing.
    """
    dataset = load_data(cfg.data)
    return assemble(cfg, dataset, partition(dataset, cfg.partition, cfg.num_clients, cfg.seed), device)


def assemble(cfg: SimConfig, dataset: Dataset, clients: Sequence[Samples], device: str = "cpu") -> Sim:
    """Builds a run on samples that are there already; see `build_sim`."""
    if isinstance(cfg.method, FedSLConfig):
        clients = deal_segments(clients, cfg.method.segments)
    clients = tuple(_moved(part, device) for part in clients)
    dataset = replace(dataset, test=_moved(dataset.test, device))
    world = build_world(cfg.world, cfg.num_clients, cfg.seed)
    setup = build_setup(cfg, dataset, clients, world, device)
    policy = build_policy(cfg, setup)
    if policy is not None:
        setup = replace(setup, positions=policy.choose(1))
    for position in set(setup.positions):
        check_codec(cfg.codec, setup.model.shape_at(position))
    _check_batches(cfg, setup)
    method = build_method(setup)
    clock, ledger = Clock(world, cfg.seed), Ledger()
    protects = tuple(
        build_protect(cfg.privacy, cfg.seed, client, num_classes=dataset.num_classes)
        for client in range(cfg.num_clients)
    )
    devices = InProcess(
        Halves(cfg, method, clients, protects),
        [build_ends(cfg.codec, cfg.seed, client) for client in range(cfg.num_clients)],
        clock,
        ledger,
    )
    return Sim(cfg, dataset, clients, setup, method, world, protects, clock, ledger, devices, policy)


def _check_batches(cfg: SimConfig, setup: Setup) -> None:
    """Refuses here what torch would refuse in the middle of a round."""
    if not has_batchnorm(setup.model.model):
        return
    for client, num_samples in enumerate(setup.num_samples):
        if num_samples % cfg.batch == 1 or cfg.batch == 1:
            if _trains_on_one(setup.model):
                return
            raise UsageError(
                f"client {client} has {num_samples} samples: its last batch has one, on which BatchNorm cannot train",
                hint=f"change batch (now {cfg.batch}), or use model.norm: group",
            )


def _trains_on_one(model: SplitModel) -> bool:
    """Whether a batch of one can be normalised: over a picture's pixels it can, over the batch alone it cannot."""
    trial = copy.deepcopy(model.model).train()  # running statistics of the model itself stay as they are
    device = next((parameter.device for parameter in trial.parameters()), torch.device("cpu"))
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            trial(torch.zeros(1, *model.sample_shape, dtype=model.dtype, device=device))
    except ValueError:  # torch: expected more than one value per channel
        return False
    return True


def draws_at_random(model: nn.Module, *, is_own: bool) -> bool:
    """Whether a model in training may draw random numbers itself.

    Args:
        model: The whole model.
        is_own: It is the user's: what its layers do within cannot be seen from outside.
    """
    return is_own or any(
        isinstance(module, nn.modules.dropout._DropoutNd | nn.RReLU) or getattr(module, "dropout", 0) > 0
        for module in model.modules()
        if isinstance(getattr(module, "dropout", 0), int | float)
    )


def has_batchnorm(model: nn.Module) -> bool:
    """Whether there are running statistics."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def build_setup(
    cfg: SimConfig, dataset: Dataset, clients: Sequence[Samples], world: World, device: str = "cpu"
) -> Setup:
    """What a method is built from; a server on another machine builds the same."""
    torch.manual_seed(cfg.seed)
    model = SplitModel(
        build_model(cfg.model, dataset.sample_shape, dataset.num_classes).to(device),
        dataset.sample_shape,
        dataset.train.x.dtype,
    )
    vertical = cfg.partition if isinstance(cfg.partition, VerticalPartitionConfig) else None
    histograms = tuple(tuple(torch.bincount(part.y, minlength=dataset.num_classes).tolist()) for part in clients)
    return Setup(
        cfg=cfg,
        model=model,
        num_classes=dataset.num_classes,
        num_samples=tuple(len(part) for part in clients),
        positions=cut_positions(cfg, model),
        world=world,
        histograms=histograms,
        inputs=ClientInputs(
            shapes=tuple(tuple(part.x.shape[1:]) for part in clients),
            indices=tuple(vertical_inputs(dataset, vertical, cfg.num_clients)) if vertical else (),
            labels=clients[0].y if vertical else None,
        ),
        at_cut=at_cut(cfg),
    )


class AtCut(nn.Module):
    """Bound and noise on smashed data in use after training; the same noise whenever it is asked."""

    def __init__(self, protect: Protect) -> None:
        super().__init__()
        self._protect = protect

    def forward(self, z: Tensor) -> Tensor:
        """What the server gets in place of z [b, ...]."""
        return self._protect.aside(0).smashed(z, training=False)


def at_cut(cfg: SimConfig) -> AtCut | None:
    """What stands at the cut in use; None where nothing does."""
    return None if cfg.privacy.noise is None else AtCut(Protect(cfg.privacy, seed=0, client=0, num_classes=0))


def cut_positions(cfg: SimConfig, model: SplitModel) -> tuple[int, ...]:
    """Each client's cut; behind the first layer where a policy is still to choose.

    Raises:
        UsageError: A cut is none.
    """
    if isinstance(cfg.cut, str | int):
        return (model.position(cfg.cut),) * cfg.num_clients
    if isinstance(cfg.cut, tuple):
        positions = [model.position(cut) for cut in cfg.cut]
        return tuple(positions[client % len(positions)] for client in range(cfg.num_clients))
    return (1,) * cfg.num_clients


class Halves:
    """Builds a device for one round; the same on every backend."""

    def __init__(
        self, cfg: SimConfig, method: Method, clients: Sequence[Samples], protects: Sequence[Protect | None]
    ) -> None:
        self._cfg, self._method, self._clients, self._protects = cfg, method, clients, protects
        self._is_random = draws_at_random(method.setup.model.model, is_own=cfg.model.kind == "custom")

    def __call__(self, client: int, number: int, kept: State) -> ClientHalf:
        """A device with new modules."""
        context = ClientContext(
            client=client,
            round=number,
            seed=self._cfg.seed,
            samples=self._clients[client],
            batch=self._cfg.batch,
            epochs=self._cfg.local_epochs,
            optim=self._cfg.optim,
            protect=self._protects[client],
            is_random=self._is_random,
            kept=kept,
        )
        return self._method.client_half(context, self._method.client_parts(client))


def hash_weights(method: Method) -> str:
    """SHA-256 over the names and values of all that the server holds."""
    digest = hashlib.sha256()
    for module_name, module in sorted(method.modules().items()):
        for name, value in module.state_dict().items():
            digest.update(f"{module_name}.{name}".encode())
            digest.update(_plain_bytes(value))
    return digest.hexdigest()


def _plain_bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().numpy().tobytes()


def _moved(samples: Samples, device: str) -> Samples:
    return Samples(samples.x.to(device), samples.y.to(device))
