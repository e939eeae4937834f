"""Second implementation of a head for checking exports: reads the files as the tool would and runs two draft steps.

It shares no code with the writer or with the head. Names, shapes and arithmetic follow the formats' descriptions in the
simplest form: float32, no KV cache, attention heads one by one.

Two steps are run because the feature that one step passes to the next (`norm_output`) only affects the second.

Shapes: T tokens, n layers of the target, H hidden, V target vocabulary, D draft vocabulary, I MLP width, nh/nkv
query/key heads, hd head width.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from edgeai.spec.config.export import HeadFormat

NUM_STEPS = 2


class IndependentReader:
    """Exported head, read and run without the code that wrote it.

    Args:
        folder: Folder with config.json and model.safetensors.
        format: Format of the export.
        num_layers: Number of layers of the target.
    """

    def __init__(self, folder: Path, format: HeadFormat, num_layers: int) -> None:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self._tensors = load_file(folder / "model.safetensors")
        self._format = format
        self._config = config["transformer_layer_config"] if format == "speculators" else config
        self._draft_vocab = config["draft_vocab_size"]
        self._target_width = config.get("target_hidden_size") or self._config["hidden_size"]
        self._layer = "layers.0" if format == "speculators" else "midlayer"
        knows_norms = format != "eagle"
        self._fc_norm = knows_norms and config.get("fc_norm", False)
        self._norm_output = knows_norms and config.get("norm_output", False)
        if format == "speculators":
            self._norm_before_residual = config.get("norm_before_residual", True)
        else:
            self._norm_before_residual = format == "vllm" and config.get("norm_before_residual", False)
        self._num_layers = num_layers
        self.entering = _entering(config, format, num_layers)

    def problems(self) -> list[str]:
        """Return missing and unknown tensors, wrong shapes and number formats, and layers that the target lacks."""
        expected, found = self._table(), self._tensors
        problems = [f"no layer {layer}" for layer in self.entering if not 0 <= layer < self._num_layers]
        problems += [f"no {name}" for name in expected if name not in found]
        problems += [f"unknown {name}" for name in found if name not in expected]
        for name in expected.keys() & found.keys():
            if tuple(found[name].shape) != expected[name]:
                problems.append(f"{name} is {list(found[name].shape)}, not {list(expected[name])}")
            kinds = {"d2t": (torch.int64,), "t2d": (torch.bool,)}.get(name, _FLOATS)
            if found[name].dtype not in kinds:
                problems.append(f"{name} is {found[name].dtype}")
        return sorted(problems)

    def logits(self, ids: Tensor, states: Tensor, embedding: Tensor, drafted: int) -> Tensor:
        """Return draft logits over the target's vocabulary, -inf for tokens outside the draft vocabulary [2, V].

        Args:
            ids: Token ids of the text whose continuation is drafted [T].
            states: Input of each layer of the target at each token but the last [n, T - 1, H].
            embedding: The target's embedding matrix [V, H].
            drafted: Token fed back in the second step.
        """
        features = [states[layer].float() for layer in self.entering]
        if self._fc_norm:
            features = [self._normed(part, f"fc_norm.{number}") for number, part in enumerate(features)]
        inputs = self._product(torch.cat(features, -1), "fc")  # [T-1, H]
        tokens = ids[1:]
        rows = []
        for _ in range(NUM_STEPS):
            output = self._layer_output(embedding[tokens].float(), inputs)
            normed = self._normed(output, "norm")
            logits = self._product(normed[-1], "lm_head")
            rows.append(self._over_target_vocabulary(logits, embedding.shape[0]))
            carried = normed if self._norm_output else output
            inputs = torch.cat([inputs, carried[-1:]])
            tokens = torch.cat([tokens, tokens.new_tensor([drafted])])
        return torch.stack(rows)

    def _layer_output(self, embedded: Tensor, inputs: Tensor) -> Tensor:
        """Run the decoder layer over all pairs so far with causal attention [T, H]."""
        layer, config = self._layer, self._config
        hidden = self._normed(inputs, f"{layer}.hidden_norm")
        residual = hidden if self._norm_before_residual else inputs
        joined = torch.cat([self._normed(embedded, f"{layer}.input_layernorm"), hidden], -1)
        query, key, value = (self._product(joined, f"{layer}.self_attn.{name}_proj") for name in "qkv")
        width, group = self._head_width, config["num_attention_heads"] // config["num_key_value_heads"]
        angles = torch.tensor(_angles(config, width, inputs.shape[0]))  # [T, hd / 2]
        unseen = torch.ones(inputs.shape[0], inputs.shape[0]).triu(1).bool()
        outputs = []
        for head in range(config["num_attention_heads"]):
            own, shared = slice(head * width, (head + 1) * width), head // group
            theirs = slice(shared * width, (shared + 1) * width)
            scores = _rotate(query[:, own], angles) @ _rotate(key[:, theirs], angles).T / math.sqrt(width)
            outputs.append(scores.masked_fill(unseen, -math.inf).softmax(-1) @ value[:, theirs])
        x = residual + self._product(torch.cat(outputs, -1), f"{layer}.self_attn.o_proj")
        y = self._normed(x, f"{layer}.post_attention_layernorm")
        gate, up = (self._product(y, f"{layer}.mlp.{name}_proj") for name in ("gate", "up"))
        return x + self._product(gate * torch.sigmoid(gate) * up, f"{layer}.mlp.down_proj")

    def _product(self, x: Tensor, name: str) -> Tensor:
        return x @ self._tensors[f"{name}.weight"].float().T

    def _normed(self, x: Tensor, name: str) -> Tensor:
        scale = (x.square().mean(-1, keepdim=True) + self._config["rms_norm_eps"]).rsqrt()
        return x * scale * self._tensors[f"{name}.weight"].float()

    def _over_target_vocabulary(self, logits: Tensor, vocab_size: int) -> Tensor:
        offsets = self._tensors.get("d2t", torch.zeros(logits.shape[0], dtype=torch.int64))
        row = torch.full((vocab_size,), -math.inf)
        for number, (offset, logit) in enumerate(zip(offsets.tolist(), logits, strict=True)):
            row[number + offset] = logit
        return row

    @property
    def _head_width(self) -> int:
        given = self._config.get("head_dim")
        return int(given or self._config["hidden_size"] // self._config["num_attention_heads"])

    def _table(self) -> dict[str, tuple[int, ...]]:
        """Return the expected shape of every tensor."""
        config, layer = self._config, self._layer
        hidden, middle, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
        queries, keys = (config[f"num_{name}_heads"] * self._head_width for name in ("attention", "key_value"))
        table: dict[str, tuple[int, ...]] = {
            "fc": (hidden, 3 * self._target_width),
            f"{layer}.hidden_norm": (hidden,),
            f"{layer}.input_layernorm": (hidden,),
            f"{layer}.post_attention_layernorm": (hidden,),
            f"{layer}.self_attn.q_proj": (queries, 2 * hidden),
            f"{layer}.self_attn.k_proj": (keys, 2 * hidden),
            f"{layer}.self_attn.v_proj": (keys, 2 * hidden),
            f"{layer}.self_attn.o_proj": (hidden, queries),
            f"{layer}.mlp.gate_proj": (middle, hidden),
            f"{layer}.mlp.up_proj": (middle, hidden),
            f"{layer}.mlp.down_proj": (hidden, middle),
            "norm": (hidden,),
            "lm_head": (self._draft_vocab, hidden),
        }
        if self._fc_norm:
            table |= {f"fc_norm.{number}": (self._target_width,) for number in range(3)}
        named = {f"{name}.weight": shape for name, shape in table.items()}
        return named if self._draft_vocab == vocab else {**named, "d2t": (self._draft_vocab,), "t2d": (vocab,)}


_FLOATS = (torch.bfloat16, torch.float16, torch.float32)


def _entering(config: Mapping[str, Any], format: HeadFormat, num_layers: int) -> list[int]:
    """Return the layers whose entering states the server passes to the head."""
    default = [2, num_layers // 2, num_layers - 3]
    if format == "eagle":
        return default
    if format == "sglang":
        nested = config.get("eagle_config", {}).get("eagle_aux_hidden_state_layer_ids")
        return [layer + 1 for layer in nested] if nested else default
    return config.get("eagle_aux_hidden_state_layer_ids") or default


def _angles(config: Mapping[str, Any], width: int, num_positions: int) -> list[list[float]]:
    """Return the rotation angle of each pair of dimensions at each position, in double precision."""
    scaling = config.get("rope_scaling") or {}
    speeds = []
    for pair in range(width // 2):
        speed = config.get("rope_theta", 10000.0) ** (-2 * pair / width)
        if scaling.get("rope_type") == "linear":
            speed /= scaling["factor"]
        elif scaling.get("rope_type") == "llama3":
            wavelength, context = 2 * math.pi / speed, scaling["original_max_position_embeddings"]
            low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
            if wavelength > context / low:
                speed /= scaling["factor"]
            elif wavelength >= context / high:
                smooth = (context / wavelength - low) / (high - low)
                speed = (1 - smooth) * speed / scaling["factor"] + smooth * speed
        speeds.append(speed)
    return [[position * speed for speed in speeds] for position in range(num_positions)]


def _rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Apply the rotary embedding to x [T, hd]; dimensions i and i + hd / 2 form a pair."""
    first, second = x.chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
