"""Build the model and the scenes that a pretraining config describes."""

from __future__ import annotations

from edgeai.collab.config.pretrain import EdgePart, PretrainConfig, SamPart, WideScenes
from edgeai.collab.models.checkpoint import load_model, shipped_checkpoint
from edgeai.collab.pretrain.part import Part
from edgeai.collab.pretrain.sam_part import SamTinyPart
from edgeai.collab.pretrain.scenes import Scenes, draws_of
from edgeai.collab.pretrain.street_part import StreetPart


def build_part(cfg: PretrainConfig, classes: tuple[str, ...], device: str) -> Part:
    """Return the model to train, with its initial weights.

    Raises:
        UsageError: The weights in init_from are missing or do not match.
    """
    part, start = cfg.part, cfg.init_from
    if start == "shipped":
        start = shipped_checkpoint("sam-tiny" if part.kind == "sam" else f"street-{part.kind}", part.kind)
    if isinstance(part, SamPart):
        tiny = SamTinyPart(part, len(classes), device)
        if start is not None:
            tiny.start_from(start)
        return tiny
    net = StreetPart(part.net, classes, device)
    if start is not None:
        net.start_from(load_model(start, device), start)
    return net


def build_scenes(cfg: PretrainConfig) -> tuple[Scenes, tuple[str, ...]]:
    """Return scenes and class names; the edge net is trained on clear scenes with base looks only.

    Raises:
        UsageError: The source cannot be used.
    """
    part = cfg.part
    draw, draw_val, classes = draws_of(cfg.source, cfg.seed)
    wide = WideScenes(drift_frac=0.0, new_looks_frac=0.0) if isinstance(part, EdgePart) else part
    scenes = Scenes(
        cfg.seed,
        drift_frac=wide.drift_frac,
        max_level=wide.max_level,
        new_looks_frac=wide.new_looks_frac,
        draw=draw,
        draw_val=draw_val,
    )
    return scenes, classes
