"""Reader for heads of other tools: published EAGLE-3 and GTO heads, SpecForge, speculators, and edgeai's own exports.

Unknown content is an error and nothing is guessed: a partly loaded head drafts random tokens, and the only symptom is
an accept_len near one.

Shapes: D draft vocabulary, V target vocabulary, H hidden, nh/nkv query/key heads, hd head width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgeai.core.errors import UsageError
from edgeai.spec.draft.head import HeadShape
from edgeai.spec.draft.rope import rope_of
from edgeai.spec.formats.layout import LAYER_IDS, OWN_LAYER, SPECULATORS_LAYER, default_layer_ids
from edgeai.spec.target.protocol import Target

# fraction of the embedding's norm: rounding and 4-bit weights stay below; a different or random embedding is above 1
MAX_EMBEDDING_DIFFERENCE = 0.25
_HINT = "use a head for this target, or one in another format"


@dataclass(frozen=True)
class ForeignHead:
    """Head of another tool, converted to edgeai's names and conventions."""

    shape: HeadShape
    tensors: dict[str, Tensor]
    format: str
    """Name of the source format."""


def read_foreign(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], target: Target) -> ForeignHead:
    """Convert the files of another tool.

    Args:
        folder: Folder of the files, for error messages.
        config: Content of config.json.
        tensors: All tensors of the weight file.
        target: Target of the head; gives default layers, embedding and output matrix.

    Raises:
        UsageError: The files have unknown or contradictory content, or belong to another target.
        ValueError: A key is missing.
    """
    speculators = "speculators_model_type" in config
    layer = _group(config, "transformer_layer_config") if speculators else config
    _check_supported(folder, config, layer)
    ours = _split_fused(_own_names(folder, tensors), layer)
    shape = _shape(folder, config, layer, ours, target)
    _drop_embedding(folder, ours, target)
    if "lm_head.weight" not in ours and config.get("draft_vocab_size") is None:
        ours["lm_head.weight"] = target.lm_head.cpu()  # as SGLang does
    _normalize_d2t(folder, ours, shape)
    return ForeignHead(shape, ours, _format_name(config))


def _format_name(config: Mapping[str, Any]) -> str:
    if "speculators_model_type" in config:
        return "speculators"
    return "EAGLE-3, layer ids as in SGLang" if _group(config, "eagle_config").get(LAYER_IDS) else "EAGLE-3"


def _check_supported(folder: Path, config: Mapping[str, Any], layer: Mapping[str, Any]) -> None:
    """Check that no switch requests arithmetic that this head does not support."""
    kind = config.get("speculators_model_type", "eagle3")
    if kind != "eagle3":
        raise UsageError(f"{folder} is a '{kind}' draft model; only eagle3 is supported", hint=_HINT)
    activation = layer.get("hidden_act", "silu")
    if activation != "silu":
        raise UsageError(f"{folder}: hidden_act is '{activation}'; only silu is supported", hint=_HINT)
    if _group(config, "eagle_config").get("use_aux_hidden_state") is False:
        raise UsageError(f"{folder} drafts from the last hidden state (EAGLE), not from three (EAGLE-3)", hint=_HINT)
    for name in ("norm_before_fc", "attention_bias", "mlp_bias", "bias"):
        if config.get(name) or layer.get(name):
            raise UsageError(f"{folder}: config.json sets {name}, which this head does not have", hint=_HINT)


def _own_names(folder: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors to edgeai's names; two names of one tensor are an error."""
    ours: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for name, tensor in tensors.items():
        own = name.removeprefix("model.")
        if own.startswith(SPECULATORS_LAYER):
            own = OWN_LAYER + own.removeprefix(SPECULATORS_LAYER)
        if own in ours:
            raise UsageError(f"{folder} contains one tensor twice: {origin[own]} and {name}", hint=_HINT)
        ours[own], origin[own] = tensor, name
    return ours


def _split_fused(tensors: dict[str, Tensor], layer: Mapping[str, Any]) -> dict[str, Tensor]:
    """Split fused projections, which SGLang and vLLM use in memory, if the file contains them."""
    at, mlp = f"{OWN_LAYER}self_attn.", f"{OWN_LAYER}mlp."
    if f"{at}qkv_proj.weight" in tensors:
        fused = tensors.pop(f"{at}qkv_proj.weight")
        heads, kv_heads = _heads(layer)
        rows = fused.shape[0] // (heads + 2 * kv_heads)  # a wrong number leads to wrong shapes, which are checked later
        parts = fused.split([heads * rows, kv_heads * rows, fused.shape[0] - (heads + kv_heads) * rows])
        tensors |= {f"{at}{name}_proj.weight": part for name, part in zip("qkv", parts, strict=True)}
    if f"{mlp}gate_up_proj.weight" in tensors:
        gate, up = tensors.pop(f"{mlp}gate_up_proj.weight").tensor_split(2)
        tensors |= {f"{mlp}gate_proj.weight": gate, f"{mlp}up_proj.weight": up}
    return tensors


def _shape(
    folder: Path,
    config: Mapping[str, Any],
    layer: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    target: Target,
) -> HeadShape:
    hidden = int(_required(layer, "hidden_size"))
    heads, kv_heads = _heads(layer)
    vocab = int(_required(layer, "vocab_size"))
    rope = rope_of(layer, of=f"{folder}: the head")
    head_dim = int(layer.get("head_dim") or hidden // heads)
    is_like_target = head_dim == target.shape.head_dim and rope.equals(target.rotary)
    return HeadShape(
        hidden_size=hidden,
        target_hidden_size=int(config.get("target_hidden_size") or hidden),
        intermediate_size=int(_required(layer, "intermediate_size")),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        rms_norm_eps=float(layer.get("rms_norm_eps", 1e-6)),
        vocab_size=vocab,
        draft_vocab_size=int(config.get("draft_vocab_size") or vocab),
        aux_layers=_aux_layers(folder, config, target),
        fc_norm=bool(config.get("fc_norm") or False),
        norm_output=bool(config.get("norm_output") or False),
        norm_before_residual=_norm_before_residual(folder, config),
        rope=None if is_like_target else rope,
    )


def _heads(layer: Mapping[str, Any]) -> tuple[int, int]:
    heads = int(_required(layer, "num_attention_heads"))
    return heads, int(layer.get("num_key_value_heads") or heads)


def _norm_before_residual(folder: Path, config: Mapping[str, Any]) -> bool:
    if "norm_before_residual" in config:
        return bool(config["norm_before_residual"])
    if "speculators_model_type" in config:
        raise UsageError(
            f"{folder}: config.json lacks norm_before_residual; vLLM assumes true and speculators assumes false",
            hint="add the value that the head was trained with",
        )
    return False


def _aux_layers(folder: Path, config: Mapping[str, Any], target: Target) -> tuple[int, ...]:
    """Return the feature layers as entering ids; the nested ids of SGLang and SpecForge are one less."""
    nested = _group(config, "eagle_config").get(LAYER_IDS)
    top = config.get(LAYER_IDS)
    found = tuple(int(layer) for layer in top) if top else None
    if nested:
        shifted = tuple(int(layer) + 1 for layer in nested)
        if found and found != shifted:
            raise UsageError(
                f"{folder}: config.json names two sets of feature layers: entering {list(found)}, and outputs of "
                f"{list(nested)} in eagle_config",
                hint="remove the wrong one: eagle_config names layer outputs, the top level states entering a layer",
            )
        found = shifted
    if found is None:
        found = default_layer_ids(target.shape.num_layers)
        if not 2 < found[1] < found[2]:
            raise UsageError(
                f"{folder}: config.json names no feature layers, and the default {list(found)} is not three of the "
                f"{target.shape.num_layers} layers of {target.name}",
                hint=f"add the layers that the features enter to config.json as {LAYER_IDS}",
            )
    if list(found) != sorted(set(found)):
        raise UsageError(f"{folder}: the feature layers {list(found)} are not in ascending order", hint=_HINT)
    return found


def _drop_embedding(folder: Path, tensors: dict[str, Tensor], target: Target) -> None:
    """Drop the embedding from the tensors after checking that it is the target's, which the head uses."""
    embedding = tensors.pop("embed_tokens.weight", None)
    if embedding is None:
        return
    theirs = target.embedding.cpu()
    if embedding.shape != theirs.shape:
        raise UsageError(
            f"{folder}: embed_tokens is {list(embedding.shape)}, that of {target.name} is {list(theirs.shape)}; heads "
            "with their own embedding are not supported",
            hint=_HINT,
        )
    difference = float((embedding.float() - theirs.float()).norm() / theirs.float().norm())
    if not difference <= MAX_EMBEDDING_DIFFERENCE:
        raise UsageError(
            f"{folder}: embed_tokens is not that of {target.name}: they differ by {difference:.0%} of its norm",
            hint="give the target that the head was trained for, or remove embed_tokens from the file if it is unused",
        )


def _normalize_d2t(folder: Path, tensors: dict[str, Tensor], shape: HeadShape) -> None:
    """Convert d2t to offsets, as all loaders expect: the target id of draft token j is j + d2t[j].

    Some files contain the ids themselves. t2d, the mask of the same tokens [V], tells which it is; without t2d only one
    of the two may be valid. Without d2t the draft vocabulary is the first tokens.
    """
    steps = torch.arange(shape.draft_vocab_size)
    d2t, t2d = tensors.get("d2t", torch.zeros_like(steps)), tensors.get("t2d")
    if d2t.shape != steps.shape or d2t.is_floating_point():
        return  # wrong shapes and number formats are reported with those of the other tensors
    readings = {"offsets": d2t.long() + steps, "ids": d2t.long()}
    possible = [name for name, ids in readings.items() if _are_tokens(ids, shape.vocab_size)]
    if t2d is not None and t2d.shape == (shape.vocab_size,):
        kept = t2d.bool().nonzero()[:, 0]
        possible = [name for name in possible if torch.equal(readings[name].sort().values, kept)]
    if not possible:
        raise UsageError(
            f"{folder}: {'d2t' if 'd2t' in tensors else 'without d2t, the first tokens'} cannot be "
            f"{shape.draft_vocab_size} of the {shape.vocab_size} tokens" + (" of t2d" if t2d is not None else ""),
            hint=_HINT,
        )
    if len(possible) == 2 and not torch.equal(readings["offsets"], readings["ids"]):
        raise UsageError(
            f"{folder}: d2t may be offsets or token ids; t2d, which would decide, is missing", hint="add t2d"
        )
    tensors["d2t"] = readings[possible[0]] - steps


def _are_tokens(ids: Tensor, vocab_size: int) -> bool:
    return int(ids.min()) >= 0 and int(ids.max()) < vocab_size and ids.unique().shape == ids.shape


def _group(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return an object inside config.json; empty if the key is missing."""
    found = config.get(key) or {}
    if not isinstance(found, dict):
        raise ValueError(f"{key} in config.json is not an object")
    return found


def _required(config: Mapping[str, Any], key: str) -> Any:
    if config.get(key) is None:
        raise ValueError(f"config.json has no {key}")
    return config[key]
