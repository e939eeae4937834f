"""What is the same for all choices: the measured model, its cuts, the clients and their training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.advise.cut_parts import CutParts, LocalTraining, linear_head
from edgeai.fedsplit.advise.llm_shapes import build_shape
from edgeai.fedsplit.config.advise import AdviseConfig, TransformerShapeConfig
from edgeai.fedsplit.cuts.meter import StretchCost, measure_stretches
from edgeai.fedsplit.cuts.part_cost import PartCost
from edgeai.fedsplit.models.build import build_model
from edgeai.fedsplit.protocol.codec.sizes import check_codec
from edgeai.fedsplit.world.world import World, build_world


@dataclass(frozen=True)
class Scene:
    """Model, cuts, clients and training, shared by all choices."""

    cfg: AdviseConfig
    world: World
    clients: tuple[int, ...]
    training: LocalTraining
    names: tuple[str, ...]
    cost: StretchCost
    whole: PartCost
    cuts: tuple[CutParts, ...]
    input_values: int


def build_scene(cfg: AdviseConfig) -> Scene:
    """Measure the model and its cuts, and select the clients of the first round.

    Raises:
        UsageError: The model has fewer than two layers, does not take the samples, or the codec does not fit a cut; a
            device is unknown; no client takes part.
    """
    model, sample_shape, dtype = _model(cfg)
    names = tuple(name for name, _ in model.named_children())
    if len(names) < 2:
        raise UsageError(f"the model has {len(names)} layer and cannot be cut", hint="use a model with named layers")
    cost = measure_stretches(list(model), sample_shape, dtype)
    world = build_world(cfg.world, cfg.num_clients, cfg.seed)
    clients = world.cohort(1).selected
    if not clients:
        raise UsageError("no client takes part in the first round", hint="raise world.participation.availability.p")
    cuts = []
    for position in range(1, len(names)):
        client, server = cost(0, position), cost(position, len(names))
        check_codec(cfg.codec, client.output_shape)
        head = linear_head(client.output_shape, server.output_shape)
        cuts.append(CutParts(names[position - 1], position, client, server, head=head))
    return Scene(
        cfg=cfg,
        world=world,
        clients=clients,
        training=LocalTraining(cfg.samples_per_client, cfg.local_epochs, cfg.batch, cfg.codec, len(clients)),
        names=names,
        cost=cost,
        whole=cost(0, len(names)),
        cuts=tuple(cuts),
        input_values=math.prod(sample_shape),
    )


def _model(cfg: AdviseConfig) -> tuple[nn.Sequential, tuple[int, ...], torch.dtype]:
    """Return the model, the shape of a sample and its dtype."""
    if isinstance(cfg.model, TransformerShapeConfig):
        return build_shape(cfg.model), (cfg.model.seq,), torch.int64
    is_tokens = cfg.tokens or getattr(cfg.model, "vocab", None) is not None
    model = build_model(cfg.model, cfg.sample_shape, cfg.num_classes)
    return model, cfg.sample_shape, torch.int64 if is_tokens else torch.float32
