"""Loading a target with transformers: checkpoint, tokenizer and chat template."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from edgeai.core import assets
from edgeai.core.device import choose_dtype
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.target.attention import rotary_table
from edgeai.spec.target.decoder import Decoder, Layer
from edgeai.spec.target.packed_linear import PackedLinear
from edgeai.spec.target.protocol import Message, Shape
from edgeai.spec.target.torch_runtime import DecoderTarget

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
_MODEL_HINT = "give a model folder, a .gguf file, a Hugging Face id (owner/name), or a name from `edgeai assets list`"


class ChatTokenizer:
    """`Tokenizer` implemented with transformers."""

    def __init__(self, tokenizer: Any, eos_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self.eos_ids = eos_ids

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer`."""
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int], *, keep_special: bool = False) -> str:
        """See `Tokenizer`."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=not keep_special))

    def render(self, messages: Sequence[Message], *, open_answer: bool) -> str:
        """See `Tokenizer`. For a base model without a template the texts are joined."""
        if not self._tokenizer.chat_template:
            return "\n\n".join(m["content"] for m in messages) + ("\n\n" if open_answer else "")
        return str(
            self._tokenizer.apply_chat_template(
                [dict(m) for m in messages], tokenize=False, add_generation_prompt=open_answer
            )
        )


def load_target(
    config: TargetConfig, *, device: str, metrics: Metrics, aux_layers: tuple[int, ...] | None = None
) -> DecoderTarget:
    """Find the target, convert it if necessary, and load it.

    Args:
        config: Model and number format.
        device: Torch device string.
        metrics: Receiver of download and conversion progress.
        aux_layers: Feature layers; None selects `default_aux_layers`.

    Raises:
        EdgeAIError: The model cannot be found or is not a supported causal LM.
    """
    folder = model_folder(config.model, metrics)
    dtype = choose_dtype(config.dtype, device)
    hf_model = _read_checkpoint(folder, dtype, config.model)
    decoder, lm_head = _to_decoder(hf_model, device)
    return DecoderTarget(
        decoder=decoder,
        lm_head=lm_head,
        tokenizer=_read_tokenizer(folder, hf_model, config.model),
        name=config.model,
        fingerprint=_fingerprint(hf_model),
        aux_layers=aux_layers or default_aux_layers(decoder.shape.num_layers),
    )


def model_folder(model: str, metrics: Metrics) -> str:
    """Return the model folder or Hugging Face id of a model name; GGUF files are converted once."""
    path = Path(model)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UsageError(f"no such GGUF file: {model}", hint="give the path of an existing .gguf file")
        return str(_convert_gguf(path, metrics))
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UsageError(
                f"{model} is not a model folder: config.json is missing", hint="give a Hugging Face model folder"
            )
        return str(path)
    if path.is_file():
        raise UsageError(
            f"{model} is not a model folder, a GGUF file or a Hub id",
            hint="give a model folder, a .gguf file or a Hugging Face id",
        )
    if model in assets.ASSETS:
        found = assets.fetch(model, metrics)
        return str(_convert_gguf(found, metrics) if found.suffix == ".gguf" else found)
    if "/" not in model:
        known = ", ".join(sorted(assets.ASSETS))
        raise UsageError(f"no model called '{model}'", hint=f"{_MODEL_HINT}; known names: {known}")
    return model


def _convert_gguf(path: Path, metrics: Metrics) -> Path:
    """Dequantize a GGUF file to a bfloat16 safetensors folder in the cache, once."""
    stat = path.stat()
    key = hashlib.sha256(f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = assets.cache_dir() / "models" / f"{path.stem}-{key}"
    if (folder / "config.json").is_file():
        return folder
    metrics.note(f"converting {path.name} to safetensors (once)")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _quiet_transformers()
    try:
        model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise EdgeAIError(f"{path} is not a readable GGUF model: {_first_line(error)}") from error
    # transformers keeps the GGUF quantization in the config and then refuses to save the dequantized weights
    model.config.__dict__.pop("quantization_config", None)
    model.hf_quantizer = None
    partial = folder.with_name(folder.name + ".partial")
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.rename(folder)
    return folder


def model_config(model: str, metrics: Metrics) -> dict[str, Any]:
    """Return the config.json of a model as parsed by transformers, without loading weights.

    Raises:
        EdgeAIError: The model cannot be found or is not a supported causal LM.
    """
    return dict(_read_config(model_folder(model, metrics), model).to_dict())


def _read_config(folder: str, name: str) -> Any:
    """Read a causal LM's config with transformers and convert its errors to one-line messages."""
    from transformers import AutoConfig

    _quiet_transformers()
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, json.JSONDecodeError) as error:
        if Path(folder).is_dir():
            raise UsageError(f"'{name}' has no readable config: {_first_line(error)}", hint=_MODEL_HINT) from error
        raise UsageError(
            f"'{name}' is neither a local folder nor in the Hugging Face cache, and downloading it failed",
            hint=f"check the name and the network, or {_MODEL_HINT}",
        ) from error
    if config.model_type not in FAMILIES:
        raise UsageError(
            f"'{name}' has the model type '{config.model_type}'; supported types are {', '.join(FAMILIES)}",
            hint=_MODEL_HINT,
        )
    return config


def _read_checkpoint(folder: str, dtype: str, name: str) -> Any:
    """Load a causal LM with transformers and convert its errors to one-line messages."""
    from transformers import AutoModelForCausalLM

    _read_config(folder, name)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), low_cpu_mem_usage=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise EdgeAIError(f"cannot load the weights of '{name}': {_first_line(error)}", hint=_MODEL_HINT) from error
    return model.eval()


def _read_tokenizer(folder: str, hf_model: Any, name: str) -> ChatTokenizer:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise EdgeAIError(f"cannot load the tokenizer of '{name}': {_first_line(error)}") from error
    eos: set[int] = set()
    for value in (
        getattr(hf_model.generation_config, "eos_token_id", None),
        hf_model.config.eos_token_id,
        tokenizer.eos_token_id,
    ):
        eos.update(value if isinstance(value, list) else [] if value is None else [value])
    return ChatTokenizer(tokenizer, frozenset(eos))


def _to_decoder(hf_model: Any, device: str) -> tuple[Decoder, Tensor]:
    """Convert a transformers model to a `Decoder`; also returns the unpacked output matrix [V, H]."""
    config = hf_model.config
    weights: dict[str, Tensor] = dict(hf_model.state_dict())
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    max_positions = config.max_position_embeddings
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True):
        max_positions = min(max_positions, window)  # within the window, sliding attention equals full attention

    def take(name: str) -> Tensor:
        return weights.pop(name).to(device)

    def fuse(*names: str) -> Tensor:
        return torch.cat([weights.pop(name) for name in names]).to(device)

    def optional(name: str) -> Tensor | None:
        return take(name) if name in weights else None

    layers = []
    for index in range(config.num_hidden_layers):
        at, mlp = f"model.layers.{index}.self_attn", f"model.layers.{index}.mlp"
        has_bias = f"{at}.q_proj.bias" in weights
        layers.append(
            Layer(
                input_norm=take(f"model.layers.{index}.input_layernorm.weight"),
                qkv=PackedLinear(
                    fuse(f"{at}.q_proj.weight", f"{at}.k_proj.weight", f"{at}.v_proj.weight"),
                    fuse(f"{at}.q_proj.bias", f"{at}.k_proj.bias", f"{at}.v_proj.bias") if has_bias else None,
                ),
                q_norm=optional(f"{at}.q_norm.weight"),
                k_norm=optional(f"{at}.k_norm.weight"),
                out=PackedLinear(take(f"{at}.o_proj.weight")),
                post_norm=take(f"model.layers.{index}.post_attention_layernorm.weight"),
                gate_up=PackedLinear(fuse(f"{mlp}.gate_proj.weight", f"{mlp}.up_proj.weight")),
                down=PackedLinear(take(f"{mlp}.down_proj.weight")),
            )
        )
    embedding = take("model.embed_tokens.weight")
    lm_head = embedding if config.tie_word_embeddings else take("lm_head.weight")
    final_norm = take("model.norm.weight")
    weights.pop("lm_head.weight", None)
    if weights:
        raise EdgeAIError(f"the model has unsupported weights: {', '.join(sorted(weights)[:3])}")
    rotary = hf_model.model.rotary_emb
    cos, sin = rotary_table(rotary.inv_freq.to(device), float(rotary.attention_scaling), max_positions, embedding.dtype)
    decoder = Decoder(
        shape=Shape(
            vocab_size=embedding.shape[0],
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_key_value_heads,
            head_dim=head_dim,
            rms_norm_eps=config.rms_norm_eps,
            max_positions=max_positions,
        ),
        embedding=embedding,
        layers=layers,
        final_norm=final_norm,
        lm_head=PackedLinear(lm_head),
        cos=cos,
        sin=sin,
    )
    return decoder, lm_head


def _fingerprint(hf_model: Any) -> str:
    """Return a short hash of sampled weights: it distinguishes targets of equal shape, in any number format."""
    layer = hf_model.model.layers[-1]
    weights = (hf_model.model.embed_tokens.weight, layer.mlp.down_proj.weight, layer.self_attn.q_proj.weight)
    sample = torch.cat([weight.detach().flatten()[::1009] for weight in weights])
    data = sample.to(torch.bfloat16).view(torch.int16).cpu().numpy().tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


def _quiet_transformers() -> None:
    """Turn off the progress bars of transformers, which would garble the display of our own."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def default_aux_layers(num_layers: int) -> tuple[int, int, int]:
    """Return EAGLE-3's feature layers as "state entering layer id"; in shallow models, where they collide, spread
    ones.
    """
    if num_layers >= 8:
        return 2, num_layers // 2, num_layers - 3
    return min(1, num_layers - 1), num_layers // 2, num_layers - 1
