"""How each tool's files of an EAGLE-3 head differ: names, layer ids, switches.

Sources: the loaders of EAGLE (`cnets.py`), SGLang and vLLM (`llama_eagle3.py`), and speculators' `eagle3` config.

Ids of the feature layers are written in two conventions for the same tensors. "entering": the state entering decoder
layer i, as here, in EAGLE, vLLM and speculators. "output": the output of layer i, one less, in SGLang's and SpecForge's
configs.
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
    """What a tool's loader takes."""

    layer: str
    """Prefix of the decoder layer's tensors."""
    layer_ids: Literal["entering", "output", "fixed"]
    """Convention of the ids in its config; fixed: the tool always takes `default_layer_ids`."""
    takes_norms: bool
    """Whether it runs `fc_norm` and `norm_output` (EAGLE-3.1)."""
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
    """States entering these layers are the features where a config names none, in every tool."""
    return 2, num_layers // 2, num_layers - 3


def file_tensors(own: Mapping[str, Tensor], shape: HeadShape, layout: Layout, dtype: torch.dtype) -> dict[str, Tensor]:
    """A head's state dict under the tool's names; without d2t and t2d where the draft vocabulary is the target's."""
    whole = shape.draft_vocab_size == shape.vocab_size
    return {
        _renamed(name, layout): (tensor.to(dtype) if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in own.items()
        if not (whole and name in ("d2t", "t2d"))
    }


def _renamed(name: str, layout: Layout) -> str:
    return layout.layer + name.removeprefix(OWN_LAYER) if name.startswith(OWN_LAYER) else name


def misfits(shape: HeadShape, rope: Rope, format: HeadFormat, num_layers: int) -> list[str]:
    """What the head has and the tool's loader does not know: it would load without a word and draft nonsense."""
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
    """The keys of config.json that name the feature layers; none where they are the default, which all tools share."""
    if shape.aux_layers == default_layer_ids(num_layers):
        return {}
    if layout.layer_ids == "output":
        ids = [layer - 1 for layer in shape.aux_layers]
        return {"eagle_config": {"use_aux_hidden_state": True, LAYER_IDS: ids}}
    return {LAYER_IDS: list(shape.aux_layers)}


def _listed(layers: tuple[int, ...]) -> str:
    return ", ".join(map(str, layers))
