"""Builds the setup of a method: model, cuts, world and inputs. A server on another machine builds the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgeai.fedsplit.config.data import VerticalPartitionConfig
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.data.samples import Dataset, Samples
from edgeai.fedsplit.methods.setup import ClientInputs, Setup
from edgeai.fedsplit.models.build import build_model
from edgeai.fedsplit.partition.views import vertical_inputs
from edgeai.fedsplit.privacy.protection import Protect
from edgeai.fedsplit.world.world import World


class InferenceProtection(nn.Module):
    """Bound and noise on smashed data at inference, with the same noise on every call."""

    def __init__(self, protect: Protect) -> None:
        super().__init__()
        self._protect = protect

    def forward(self, z: Tensor) -> Tensor:
        """Return the tensor that the server receives in place of z [b, ...]."""
        return self._protect.aside(0).smashed(z, training=False)


def build_setup(
    cfg: SimConfig, dataset: Dataset, clients: Sequence[Samples], world: World, device: str = "cpu"
) -> Setup:
    """Build the setup of a method.

    Args:
        cfg: Config of the run.
        dataset: Whole data set.
        clients: Training samples of each client.
        world: Devices and links.
        device: Torch device of the model.
    """
    torch.manual_seed(cfg.seed)
    model = SplitModel(
        build_model(cfg.model, dataset.sample_shape, dataset.num_classes).to(device),
        dataset.sample_shape,
        dataset.train.x.dtype,
    )
    histograms = tuple(tuple(torch.bincount(part.y, minlength=dataset.num_classes).tolist()) for part in clients)
    return Setup(
        cfg=cfg,
        model=model,
        num_classes=dataset.num_classes,
        num_samples=tuple(len(part) for part in clients),
        positions=_cut_positions(cfg, model),
        world=world,
        histograms=histograms,
        inputs=_client_inputs(cfg, dataset, clients),
        at_cut=_inference_protection(cfg),
    )


def _client_inputs(cfg: SimConfig, dataset: Dataset, clients: Sequence[Samples]) -> ClientInputs:
    shapes = tuple(tuple(part.x.shape[1:]) for part in clients)
    if not isinstance(cfg.partition, VerticalPartitionConfig):
        return ClientInputs(shapes)
    return ClientInputs(shapes, tuple(vertical_inputs(dataset, cfg.partition, cfg.num_clients)), clients[0].y)


def _inference_protection(cfg: SimConfig) -> InferenceProtection | None:
    if cfg.privacy.noise is None:
        return None
    return InferenceProtection(Protect(cfg.privacy, seed=0, client=0, num_classes=0))


def _cut_positions(cfg: SimConfig, model: SplitModel) -> tuple[int, ...]:
    """Return the position of each client's cut; behind the first layer if a policy chooses it later.

    Raises:
        UsageError: A cut does not exist, or leaves one side without a layer.
    """
    if isinstance(cfg.cut, str | int):
        return (model.position(cfg.cut),) * cfg.num_clients
    if isinstance(cfg.cut, tuple):
        positions = [model.position(cut) for cut in cfg.cut]
        return tuple(positions[client % len(positions)] for client in range(cfg.num_clients))
    return (1,) * cfg.num_clients
