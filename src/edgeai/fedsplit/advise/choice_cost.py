"""Cost of one round of a method at a cut: bytes, time, energy and memory, from shapes alone."""

from __future__ import annotations

from collections.abc import Mapping

from edgeai.fedsplit.advise.client_cost import Load, load_of
from edgeai.fedsplit.advise.cut_parts import CutParts
from edgeai.fedsplit.advise.round_time import MeanLink, Schedule, Times, energy_j, line_s, mean_link, round_s, times_of
from edgeai.fedsplit.advise.scene import Scene
from edgeai.fedsplit.config.advise import AdviseMethod
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
from edgeai.fedsplit.protocol.part import training_bytes
from edgeai.fedsplit.reports.advise_report import Choice
from edgeai.fedsplit.world.world import SERVER


def cost_of(scene: Scene, method: AdviseMethod, parts: CutParts) -> Choice:
    """Return the cost of one round.

    Args:
        scene: Model, clients and training.
        method: The method.
        parts: The model, cut as the method needs it.
    """
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
    scene: Scene, loads: Mapping[int, Load], times: Mapping[int, Times], links: Mapping[int, MeanLink], seconds: float
) -> tuple[list[float], float]:
    """Return the energy of each client and of the server, which receives what clients send."""
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


def _loads(scene: Scene, method: AdviseMethod, parts: CutParts) -> dict[int, Load]:
    """Return each client's load if all clients split the model."""
    loads = dict.fromkeys(scene.clients, load_of(method, parts, scene.training))
    if isinstance(method, SGLRConfig):  # some receive one vector, the others their whole gradient
        num_averaged = round(method.average_frac * len(scene.clients))
        for number, client in enumerate(scene.clients):
            share = 1.0 if number < num_averaged else 0.0
            loads[client] = load_of(method.model_copy(update={"average_frac": share}), parts, scene.training)
    return loads


def _whole_loads(scene: Scene, method: AdviseMethod) -> dict[int, Load]:
    """Return the loads of the clients that train the whole model while others split it: the fastest clients of HSFL."""
    if not isinstance(method, HSFLConfig):
        return {}
    by_speed = sorted(scene.clients, key=lambda k: (scene.world.device(k).flops_per_s, k))
    num_split = round(method.split_frac * len(by_speed))
    load = load_of(FedAvgConfig(), CutParts("", 0, scene.whole), scene.training)
    return dict.fromkeys(by_speed[num_split:], load)


def _seconds(scene: Scene, method: AdviseMethod, times: dict[int, Times], alone: set[int]) -> float:
    lanes = scene.world.lanes
    split = [times[k] for k in times if k not in alone]
    schedule, num_halves = _schedule(method, len(split))
    seconds = [round_s("alone", [times[k] for k in alone], num_halves=1, lanes=lanes)] if alone else []
    if split:
        seconds.append(round_s(schedule, split, num_halves=num_halves, lanes=lanes))
    return max(seconds)


def _schedule(method: AdviseMethod, num_split: int) -> tuple[Schedule, int]:
    """Return how clients share the server, and the number of its model halves."""
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


def _client_memory(scene: Scene, method: AdviseMethod, parts: CutParts, *, is_whole: bool) -> int:
    """Return the static memory of the trained parts plus the activations that autograd saves for a batch."""
    costs = [scene.whole if is_whole else parts.client]
    if parts.tail and not is_whole:
        costs.append(parts.tail)
    if parts.head and isinstance(method, LocalLossConfig | CSEFSLConfig | FSLSageConfig):
        costs.append(parts.head)
    batch = min(scene.cfg.batch, scene.cfg.samples_per_client)
    return sum(training_bytes(cost, scene.cfg.optim) + round(batch * cost.saved_bytes) for cost in costs)


def _server_memory(scene: Scene, method: AdviseMethod, parts: CutParts, *, num_whole: int) -> tuple[int, int]:
    """Return the memory of one server half with its saved activations, and of all halves and models in transit."""
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
    """Return the method's name and its settings that differ from the defaults."""
    default = type(method)()
    changed = [
        f"{name}={getattr(method, name)}"
        for name in type(method).model_fields
        if getattr(method, name) != getattr(default, name)
    ]
    return " ".join((method.kind, *changed))
