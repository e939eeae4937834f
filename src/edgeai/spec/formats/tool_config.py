"""config.json of an exported head, in the form that each tool reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from edgeai.spec.config.export import HeadFormat
from edgeai.spec.draft.head import HeadShape
from edgeai.spec.draft.rope import Rope
from edgeai.spec.formats.layout import LAYOUTS, layer_id_keys

SPECULATORS_VERSION = "0.7.0"
SPECULATIVE_TOKENS = 3  # default of the exported config: a short chain is best for large batches


@dataclass(frozen=True)
class ModelFacts:
    """Facts of the target that a head's config repeats."""

    name: str
    """Name of the target; speculators' config names it as the verifier."""
    num_layers: int
    rope: Rope
    max_positions: int
    architectures: tuple[str, ...]
    special_ids: Mapping[str, Any]
    """bos_token_id, eos_token_id and pad_token_id; None if the model has none."""


def config_for(
    format: HeadFormat, shape: HeadShape, facts: ModelFacts, rope: Rope, dtype: torch.dtype
) -> dict[str, Any]:
    """Return the config.json that the tool's loader reads.

    Args:
        format: Format of the export.
        shape: Shape of the head.
        facts: Facts of its target.
        rope: Rotary embedding of the head: its own or the target's.
        dtype: Number format of the tensors.
    """
    layer = _layer_config(shape, facts, rope, dtype)
    ids = layer_id_keys(shape, LAYOUTS[format], facts.num_layers)
    if format == "speculators":
        return _speculators(shape, facts, layer, ids, dtype)
    switches: dict[str, Any] = {
        name: True for name in ("fc_norm", "norm_output", "norm_before_residual") if getattr(shape, name)
    }
    # older vLLM cannot read null here, so the key is written only if the widths differ
    if shape.target_hidden_size != shape.hidden_size:
        switches |= {"target_hidden_size": shape.target_hidden_size}
    return {
        "architectures": ["LlamaForCausalLMEagle3"],
        **layer,
        "draft_vocab_size": shape.draft_vocab_size,
        **switches,
        **ids,
    }


def _layer_config(shape: HeadShape, facts: ModelFacts, rope: Rope, dtype: torch.dtype) -> dict[str, Any]:
    """Return a Llama config for the head's only layer."""
    return {
        "model_type": "llama",
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_dim,
        "num_hidden_layers": 1,
        "hidden_act": "silu",
        "rms_norm_eps": shape.rms_norm_eps,
        **rope.to_config(),
        "max_position_embeddings": facts.max_positions,
        "vocab_size": shape.vocab_size,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        **facts.special_ids,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }


def _speculators(
    shape: HeadShape, facts: ModelFacts, layer: Mapping[str, Any], ids: Mapping[str, Any], dtype: torch.dtype
) -> dict[str, Any]:
    return {
        "architectures": ["Eagle3DraftModel"],
        "speculators_model_type": "eagle3",
        "speculators_version": SPECULATORS_VERSION,
        "draft_vocab_size": shape.draft_vocab_size,
        "norm_before_residual": shape.norm_before_residual,  # vLLM assumes true if the key is missing
        "norm_before_fc": False,
        "fc_norm": shape.fc_norm,
        "norm_output": shape.norm_output,
        "embed_requires_grad": False,
        "target_hidden_size": None if shape.target_hidden_size == shape.hidden_size else shape.target_hidden_size,
        **ids,
        "transformer_layer_config": {"architectures": ["LlamaForCausalLM"], **layer},
        "speculators_config": {
            "algorithm": "eagle3",
            "default_proposal_method": "greedy",
            "proposal_methods": [
                {
                    "proposal_type": "greedy",
                    "speculative_tokens": SPECULATIVE_TOKENS,
                    "verifier_accept_k": 1,
                    "accept_tolerance": 0.0,
                }
            ],
            "verifier": {"name_or_path": facts.name, "architectures": list(facts.architectures)},
        },
        "torch_dtype": str(dtype).removeprefix("torch."),
    }
