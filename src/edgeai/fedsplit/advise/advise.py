"""Weighs every cut of a model and many methods for given devices and links, from shapes alone.

What shapes do not tell is left out and said so: how many rounds a method needs to be accurate, and what its smashed
data give away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.advise.crossover import find_crossover, spread
from edgeai.fedsplit.advise.crossover_count import count_rounds
from edgeai.fedsplit.advise.llm_shapes import build_shape
from edgeai.fedsplit.advise.load import Load, Parts, Schooling, linear_head, load_of
from edgeai.fedsplit.advise.recommendation import NOTES, recommend
from edgeai.fedsplit.advise.time import Mean, Schedule, Times, energy_j, line_s, mean_link, round_s, times_of
from edgeai.fedsplit.config.advise import AdviseConfig, AdviseMethod, TransformerShapeConfig
from edgeai.fedsplit.config.federated import FedAvgConfig
from edgeai.fedsplit.config.hybrid import (
    CSEFSLConfig,
    FSLSageConfig,
    HSFLConfig,
    LocalLossConfig,
    SFLGConfig,
    SplitFedV1Config,
    SplitFedV2Config,
    SplitFedV3Config,
)
from edgeai.fedsplit.config.split import PSLConfig, RelayConfig, SGLRConfig, UShapeConfig
from edgeai.fedsplit.cuts.meter import Stretches, measure_stretches
from edgeai.fedsplit.cuts.part_cost import PartCost
from edgeai.fedsplit.models.build import build_model
from edgeai.fedsplit.protocol.codec.sizes import check_codec
from edgeai.fedsplit.protocol.part import training_bytes
from edgeai.fedsplit.reports.advise_report import AdviseReport, Choice, CutPlace, mark_best
from edgeai.fedsplit.world.world import SERVER, World, build_world


def advise(cfg: AdviseConfig) -> AdviseReport:
    """Weighs all choices.

    Raises:
        UsageError: The model has fewer than two layers, does not take the samples, or the codec does not fit a cut; a
            device is unknown; nobody takes part.
    """
    scene = _scene(cfg)
    choices = [choice for method in cfg.methods for choice in _choices(scene, method)]
    choices = mark_best(choices)
    crossovers = tuple(
        find_crossover(parts, scene.whole.num_params, scene.whole.weight_bytes, scene.how, cfg.num_clients)
        for parts in scene.cuts
    )
    return AdviseReport(
        num_params=scene.whole.num_params,
        weight_bytes=scene.whole.weight_bytes,
        forward_flops=scene.whole.forward_flops,
        num_clients=cfg.num_clients,
        num_active=len(scene.clients),
        samples_per_client=cfg.samples_per_client,
        cuts=tuple(_place(parts, scene.whole) for parts in scene.cuts),
        choices=tuple(choices),
        crossovers=crossovers,
        counted=count_rounds(cfg, [item.cut for item in spread(crossovers)]) if cfg.count_samples else (),
        recommendation=recommend(choices, crossovers, cfg.samples_per_client),
        notes=NOTES,
    )


@dataclass(frozen=True)
class _Scene:
    """Everything that is the same for all choices."""

    cfg: AdviseConfig
    world: World
    clients: tuple[int, ...]
    how: Schooling
    names: tuple[str, ...]
    cost: Stretches
    whole: PartCost
    cuts: tuple[Parts, ...]
    input_values: int


def _scene(cfg: AdviseConfig) -> _Scene:
    model, sample_shape, dtype = _model(cfg)
    names = tuple(name for name, _ in model.named_children())
    if len(names) < 2:
        raise UsageError(f"the model has {len(names)} layer, so that it cannot be cut", hint="give it named layers")
    cost = measure_stretches(list(model), sample_shape, dtype)
    world = build_world(cfg.world, cfg.num_clients, cfg.seed)
    clients = world.cohort(1).selected
    if not clients:
        raise UsageError("nobody takes part in the first round", hint="raise world.participation.availability.p")
    cuts = []
    for position in range(1, len(names)):
        client, server = cost(0, position), cost(position, len(names))
        check_codec(cfg.codec, client.output_shape)
        head = linear_head(client.output_shape, server.output_shape)
        cuts.append(Parts(names[position - 1], position, client, server, head=head))
    return _Scene(
        cfg=cfg,
        world=world,
        clients=clients,
        how=Schooling(cfg.samples_per_client, cfg.local_epochs, cfg.batch, cfg.codec, len(clients)),
        names=names,
        cost=cost,
        whole=cost(0, len(names)),
        cuts=tuple(cuts),
        input_values=math.prod(sample_shape),
    )


def _model(cfg: AdviseConfig) -> tuple[nn.Sequential, tuple[int, ...], torch.dtype]:
    """Returns the model, the shape of a sample, and its type."""
    if isinstance(cfg.model, TransformerShapeConfig):
        return build_shape(cfg.model), (cfg.model.seq,), torch.int64
    is_tokens = cfg.tokens or getattr(cfg.model, "vocab", None) is not None
    model = build_model(cfg.model, cfg.sample_shape, cfg.num_classes)
    return model, cfg.sample_shape, torch.int64 if is_tokens else torch.float32


def _choices(scene: _Scene, method: AdviseMethod) -> Iterator[Choice]:
    """The method at each of its cuts."""
    if isinstance(method, FedAvgConfig):
        yield _weigh(scene, method, Parts("", 0, scene.whole))
        return
    if not isinstance(method, UShapeConfig):
        yield from (_weigh(scene, method, parts) for parts in scene.cuts)
        return
    end = _tail_position(scene.names, method)
    for position in range(1, end):
        tail = scene.cost(end, len(scene.names))
        middle = scene.cost(position, end)
        yield _weigh(scene, method, Parts(scene.names[position - 1], position, scene.cost(0, position), middle, tail))


def _tail_position(names: Sequence[str], method: UShapeConfig) -> int:
    if isinstance(method.tail, str):
        if method.tail not in names:
            raise UsageError(f'ushape: no layer "{method.tail}"', hint=f"the layers are {', '.join(names)}")
        return names.index(method.tail) + 1
    return method.tail if method.tail > 0 else len(names) + method.tail


def _weigh(scene: _Scene, method: AdviseMethod, parts: Parts) -> Choice:
    """One method at one cut."""
    world = scene.world
    whole_loads = _whole_loads(scene, method)
    loads = _loads(scene, method, parts) | whole_loads
    links = {client: mean_link(world.link_config(client)) for client in scene.clients}
    server = world.device(SERVER)
    times = {k: times_of(loads[k], world.device(k), links[k], server) for k in scene.clients}
    seconds = _seconds(scene, method, times, alone=set(whole_loads))
    client_j, server_j = _energy(scene, loads, times, links, seconds)
    memory = {k: _client_memory(scene, method, parts, is_whole=k in whole_loads) for k in scene.clients}
    half_memory, server_memory = _server_memory(scene, method, parts, num_whole=len(whole_loads))
    total_up, total_down = (sum(getattr(loads[k], way) for k in scene.clients) for way in ("up_bytes", "down_bytes"))
    fits = all(memory[k] <= world.device(k).memory_bytes for k in scene.clients)
    return Choice(
        method=_label(method),
        cut=parts.cut,
        client_up_bytes=total_up / len(loads),
        client_down_bytes=total_down / len(loads),
        total_bytes=total_up + total_down,
        seconds=seconds,
        client_j=sum(client_j) / len(client_j),
        total_j=sum(client_j) + server_j,
        client_memory_bytes=max(memory.values()),
        server_memory_bytes=server_memory,
        fits=fits and half_memory <= server.memory_bytes and server_memory <= world.lanes * server.memory_bytes,
        labels_leave=any(load.labels_leave for load in loads.values()),
        averages_clients=all(load.sync_up_bytes > 0 for load in loads.values()),
        client_params_frac=(parts.client.num_params + (parts.tail.num_params if parts.tail else 0))
        / scene.whole.num_params,
        client_flops_frac=parts.client.forward_flops / max(1.0, scene.whole.forward_flops),
        cut_per_input=parts.cut_values / scene.input_values,
    )


def _energy(
    scene: _Scene, loads: Mapping[int, Load], times: Mapping[int, Times], links: Mapping[int, Mean], seconds: float
) -> tuple[list[float], float]:
    """Joules of each client, and of the server, which receives what they send."""
    world, lines = scene.world, {k: line_s(loads[k], links[k]) for k in scene.clients}
    client_j = [
        energy_j(
            world.device(k),
            seconds,
            compute_s=times[k].forward_s + times[k].backward_s,
            tx_s=lines[k][0],
            rx_s=lines[k][1],
        )
        for k in scene.clients
    ]
    server_j = energy_j(
        world.device(SERVER),
        seconds,
        compute_s=sum(times[k].server_s for k in scene.clients),
        tx_s=sum(down_s for _, down_s in lines.values()),
        rx_s=sum(up_s for up_s, _ in lines.values()),
        num_devices=world.lanes,
    )
    return client_j, server_j


def _loads(scene: _Scene, method: AdviseMethod, parts: Parts) -> dict[int, Load]:
    """Each client's load, as if all split."""
    loads = dict.fromkeys(scene.clients, load_of(method, parts, scene.how))
    if isinstance(method, SGLRConfig):  # some get one vector, the others all of their gradient
        num_averaged = round(method.average_frac * len(scene.clients))
        for number, client in enumerate(scene.clients):
            share = 1.0 if number < num_averaged else 0.0
            loads[client] = load_of(method.model_copy(update={"average_frac": share}), parts, scene.how)
    return loads


def _whole_loads(scene: _Scene, method: AdviseMethod) -> dict[int, Load]:
    """Loads of clients that train the whole model beside others that split: the fastest ones of HSFL."""
    if not isinstance(method, HSFLConfig):
        return {}
    by_speed = sorted(scene.clients, key=lambda k: (scene.world.device(k).flops_per_s, k))
    num_split = round(method.split_frac * len(by_speed))
    load = load_of(FedAvgConfig(), Parts("", 0, scene.whole), scene.how)
    return dict.fromkeys(by_speed[num_split:], load)


def _seconds(scene: _Scene, method: AdviseMethod, times: dict[int, Times], alone: set[int]) -> float:
    lanes = scene.world.lanes
    split = [times[k] for k in times if k not in alone]
    schedule, num_halves = _schedule(method, len(split))
    seconds = [round_s("alone", [times[k] for k in alone], num_halves=1, lanes=lanes)] if alone else []
    if split:
        seconds.append(round_s(schedule, split, num_halves=num_halves, lanes=lanes))
    return max(seconds)


def _schedule(method: AdviseMethod, num_split: int) -> tuple[Schedule, int]:
    """How clients share the server, and how many halves it has."""
    if isinstance(method, FedAvgConfig):
        return "alone", 0
    if isinstance(method, RelayConfig | UShapeConfig):
        return "turns", 1
    if isinstance(method, SplitFedV1Config | SplitFedV3Config | HSFLConfig):
        return "replicas", num_split
    if isinstance(method, SFLGConfig):
        return "shared", min(method.groups, num_split)
    if isinstance(method, PSLConfig | SGLRConfig):
        return "lockstep", 1
    if isinstance(method, LocalLossConfig | CSEFSLConfig | FSLSageConfig):
        is_replicated = isinstance(method, LocalLossConfig) and method.server == "replicas"
        return "overlapped", num_split if is_replicated else 1
    if isinstance(method, SplitFedV2Config) and method.server_order == "client":
        return "queue", 1
    return "shared", 1


def _client_memory(scene: _Scene, method: AdviseMethod, parts: Parts, *, is_whole: bool) -> int:
    """Static memory of the parts in training, and what autograd keeps of a batch."""
    costs = [scene.whole if is_whole else parts.client]
    if parts.tail and not is_whole:
        costs.append(parts.tail)
    if parts.head and isinstance(method, LocalLossConfig | CSEFSLConfig | FSLSageConfig):
        costs.append(parts.head)
    batch = min(scene.cfg.batch, scene.cfg.samples_per_client)
    return sum(training_bytes(cost, scene.cfg.optim) + round(batch * cost.saved_bytes) for cost in costs)


def _server_memory(scene: _Scene, method: AdviseMethod, parts: Parts, *, num_whole: int) -> tuple[int, int]:
    """Static memory of a half with what autograd keeps of its batch; and of all halves and models on their way."""
    num_active = len(scene.clients)
    if parts.server is None:
        average = training_bytes(scene.whole, scene.cfg.optim)
        return average, average + num_active * scene.whole.weight_bytes
    schedule, num_halves = _schedule(method, num_active - num_whole)
    batch = min(scene.cfg.batch, scene.cfg.samples_per_client)
    num_merged = num_active if schedule == "lockstep" else 1
    half = training_bytes(parts.server, scene.cfg.optim) + round(num_merged * batch * parts.server.saved_bytes)
    stored = num_active * batch * parts.client.output_bytes if isinstance(method, FSLSageConfig) else 0
    return half, num_halves * half + num_whole * scene.whole.weight_bytes + stored


def _label(method: AdviseMethod) -> str:
    """The name, and settings that are not the default ones."""
    default = type(method)()
    changed = [
        f"{name}={getattr(method, name)}"
        for name in type(method).model_fields
        if getattr(method, name) != getattr(default, name)
    ]
    return " ".join((method.kind, *changed))


def _place(parts: Parts, whole: PartCost) -> CutPlace:
    return CutPlace(
        cut=parts.cut,
        client_params=parts.client.num_params,
        client_flops_frac=parts.client.forward_flops / whole.forward_flops if whole.forward_flops else 0.0,
        cut_shape=parts.client.output_shape,
        cut_bytes=parts.client.output_bytes,
        client_saved_bytes=parts.client.saved_bytes,
    )
