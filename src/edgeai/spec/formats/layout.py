"""Differences between the tools' EAGLE-3 file formats: tensor names, layer ids and supported features.

Sources: the loaders of EAGLE (`cnets.py`), SGLang and vLLM (`llama_eagle3.py`), and speculators' `eagle3` config.

The ids of the feature layers follow two conventions for the same tensors. "entering": id i is the state entering
decoder layer i, as here and in EAGLE, vLLM and speculators. "output": id i is the output of layer i, so ids are one
less, as in the configs of SGLang and SpecForge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from edgeai.spec.config.export import HeadFormat
from edgeai.spec.draft.head import HeadShape
from edgeai.spec.draft.rope import Rope

LAYER_IDS = "eagle_aux_hidden_state_layer_ids"
OWN_LAYER = "midlayer."
SPECULATORS_LAYER = "layers.0."


@dataclass(frozen=True)
class Layout:
    """Format that a tool's loader accepts."""

    layer: str
    """Prefix of the decoder layer's tensors."""
    layer_ids: Literal["entering", "output", "fixed"]
    """Convention of the ids in config.json; fixed: the tool always uses `default_layer_ids`."""
    takes_norms: bool
    """True if the tool supports `fc_norm` and `norm_output` (EAGLE-3.1)."""
    takes_norm_before_residual: bool
    takes_rope_scaling: bool


LAYOUTS: Mapping[HeadFormat, Layout] = {
    "sglang": Layout(OWN_LAYER, "output", takes_norms=True, takes_norm_before_residual=False, takes_rope_scaling=True),
    "vllm": Layout(OWN_LAYER, "entering", takes_norms=True, takes_norm_before_residual=True, takes_rope_scaling=True),
    "speculators": Layout(
        SPECULATORS_LAYER, "entering", takes_norms=True, takes_norm_before_residual=True, takes_rope_scaling=True
    ),
    "eagle": Layout(OWN_LAYER, "fixed", takes_norms=False, takes_norm_before_residual=False, takes_rope_scaling=False),
}


def default_layer_ids(num_layers: int) -> tuple[int, int, int]:
    """Return the feature layers, as entering ids, that every tool assumes if a config names none."""
    return 2, num_layers // 2, num_layers - 3


def file_tensors(own: Mapping[str, Tensor], shape: HeadShape, layout: Layout, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return a head's state dict under the tool's names, without d2t and t2d if the draft vocabulary is the target's.

    Args:
        own: State dict of the head.
        shape: Shape of the head.
        layout: Format of the tool.
        dtype: Number format of the floating-point tensors.
    """
    whole = shape.draft_vocab_size == shape.vocab_size
    return {
        _renamed(name, layout): (tensor.to(dtype) if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in own.items()
        if not (whole and name in ("d2t", "t2d"))
    }


def _renamed(name: str, layout: Layout) -> str:
    return layout.layer + name.removeprefix(OWN_LAYER) if name.startswith(OWN_LAYER) else name


def unsupported(shape: HeadShape, rope: Rope, format: HeadFormat, num_layers: int) -> list[str]:
    """Return the features of a head that the tool's loader would silently ignore."""
    layout, problems = LAYOUTS[format], list[str]()
    if not layout.takes_norms:
        problems += [name for name in ("fc_norm", "norm_output") if getattr(shape, name)]
    if shape.norm_before_residual and not layout.takes_norm_before_residual:
        problems.append("norm_before_residual")
    if layout.layer_ids == "fixed" and shape.aux_layers != default_layer_ids(num_layers):
        problems.append(f"feature layers {_listed(shape.aux_layers)} (always {_listed(default_layer_ids(num_layers))})")
    if rope.kind != "default" and not layout.takes_rope_scaling:
        problems.append(f"rope scaling '{rope.kind}'")
    return problems


def layer_id_keys(shape: HeadShape, layout: Layout, num_layers: int) -> dict[str, Any]:
    """Return the keys of config.json that name the feature layers; none for `default_layer_ids`."""
    if shape.aux_layers == default_layer_ids(num_layers):
        return {}
    if layout.layer_ids == "output":
        ids = [layer - 1 for layer in shape.aux_layers]
        return {"eagle_config": {"use_aux_hidden_state": True, LAYER_IDS: ids}}
    return {LAYER_IDS: list(shape.aux_layers)}


def _listed(layers: tuple[int, ...]) -> str:
    return ", ".join(map(str, layers))
