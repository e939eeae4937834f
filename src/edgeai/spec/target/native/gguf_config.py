"""The config of a model in a GGUF file, in the terms of a config.json, from the header alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeai.core.errors import EdgeAIError
from edgeai.spec.target.native.gguf_header import Skipped, Value, quoted, read_header

_CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
_SPECIAL_TOKENS = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
_END_TOKENS = ("eos", "eot", "eom")  # of a text, a turn and a message


def gguf_config(path: Path) -> dict[str, Any]:
    """Return what other tools need to know of a model: layers, context, rotary embedding, class and special tokens.

    Raises:
        EdgeAIError: The file is damaged, has another architecture, or lacks a key.
    """
    keys = read_header(path).keys
    arch = keys.get("general.architecture")
    if not isinstance(arch, str) or arch not in _CLASSES:
        shown = quoted(arch) if isinstance(arch, str) else "no architecture"
        raise EdgeAIError(f"{path} has {shown}, not {', '.join(_CLASSES)}")

    def number(name: str, default: Value | None = None) -> int | float:
        value = keys.get(f"{arch}.{name}", default)
        if type(value) not in (int, float):
            shown = "an array" if isinstance(value, Skipped) else repr(value)
            raise EdgeAIError(f"{path}: the key '{arch}.{name}' is {shown}, not a number")
        return value  # type: ignore[return-value]

    kind = str(keys.get(f"{arch}.rope.scaling.type", "none"))
    rope: dict[str, Any] = {"rope_type": "default" if kind == "none" else kind}
    rope["rope_theta"] = float(number("rope.freq_base", 10000.0))
    if kind != "none":
        rope["factor"] = float(number("rope.scaling.factor"))
    ids = {name: keys.get(f"tokenizer.ggml.{theirs}_token_id") for name, theirs in _SPECIAL_TOKENS.items()}
    return {
        "architectures": [_CLASSES[arch]],
        "num_hidden_layers": int(number("block_count")),
        "max_position_embeddings": int(number("context_length")),
        "rope_parameters": rope,
        **{name: value for name, value in ids.items() if type(value) is int},
    }


def end_tokens(path: Path) -> frozenset[int]:
    """Return the tokens that end an answer.

    Raises:
        EdgeAIError: The file is damaged.
    """
    keys = read_header(path).keys
    found = (keys.get(f"tokenizer.ggml.{name}_token_id") for name in _END_TOKENS)
    return frozenset(token for token in found if type(token) is int)
