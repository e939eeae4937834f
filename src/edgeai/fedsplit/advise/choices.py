"""`edgeai fedsplit advise`: the cost of every cut and method for given devices and links, from shapes alone.

Shapes do not determine how many rounds a method needs for a given accuracy, nor what its smashed data reveal; the
report says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgeai.core.errors import UsageError
from edgeai.fedsplit.advise.choice_cost import cost_of
from edgeai.fedsplit.advise.crossover import find_crossover, spread
from edgeai.fedsplit.advise.crossover_count import count_rounds
from edgeai.fedsplit.advise.cut_parts import CutParts
from edgeai.fedsplit.advise.recommendation import NOTES, recommend
from edgeai.fedsplit.advise.scene import Scene, build_scene
from edgeai.fedsplit.config.advise import AdviseConfig, AdviseMethod
from edgeai.fedsplit.config.federated import FedAvgConfig
from edgeai.fedsplit.config.split import UShapeConfig
from edgeai.fedsplit.cuts.part_cost import PartCost
from edgeai.fedsplit.reports.advise_report import AdviseReport, Choice, CutPlace, mark_best


def advise(cfg: AdviseConfig) -> AdviseReport:
    """Return the costs of all choices, the crossovers of all cuts and a recommendation.

    Raises:
        UsageError: The model has fewer than two layers, does not take the samples, or the codec does not fit a cut; a
            device is unknown; no client takes part.
    """
    scene = build_scene(cfg)
    choices = mark_best([choice for method in cfg.methods for choice in _choices(scene, method)])
    crossovers = tuple(
        find_crossover(parts, scene.whole.num_params, scene.whole.weight_bytes, scene.training, cfg.num_clients)
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


def _choices(scene: Scene, method: AdviseMethod) -> Iterator[Choice]:
    """Yield the costs of a method at each of its cuts."""
    if isinstance(method, FedAvgConfig):
        yield cost_of(scene, method, CutParts("", 0, scene.whole))
        return
    if not isinstance(method, UShapeConfig):
        yield from (cost_of(scene, method, parts) for parts in scene.cuts)
        return
    end = _tail_position(scene.names, method)
    for position in range(1, end):
        tail = scene.cost(end, len(scene.names))
        middle = scene.cost(position, end)
        yield cost_of(
            scene, method, CutParts(scene.names[position - 1], position, scene.cost(0, position), middle, tail)
        )


def _tail_position(names: Sequence[str], method: UShapeConfig) -> int:
    if isinstance(method.tail, str):
        if method.tail not in names:
            raise UsageError(f'ushape: no layer "{method.tail}"', hint=f"the layers are {', '.join(names)}")
        return names.index(method.tail) + 1
    return method.tail if method.tail > 0 else len(names) + method.tail


def _place(parts: CutParts, whole: PartCost) -> CutPlace:
    return CutPlace(
        cut=parts.cut,
        client_params=parts.client.num_params,
        client_flops_frac=parts.client.forward_flops / whole.forward_flops if whole.forward_flops else 0.0,
        cut_shape=parts.client.output_shape,
        cut_bytes=parts.client.output_bytes,
        client_saved_bytes=parts.client.saved_bytes,
    )
