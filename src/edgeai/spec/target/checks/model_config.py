"""The check of a model's config.json: every key that it may have, and the values of those that change the result.

A key that is not listed may change what the model computes, so it is refused; transformers ignores such keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeai.core.errors import UsageError
from edgeai.spec.target.decoder import ACTIVATIONS

FAMILIES = {
    "llama": ("LlamaForCausalLM", "LLaMAForCausalLM"),
    "mistral": ("MistralForCausalLM",),
    "qwen2": ("Qwen2ForCausalLM",),
    "qwen3": ("Qwen3ForCausalLM",),
}
"""Supported model types and their causal language models."""
ROTARY_KINDS = ("default", "linear", "llama3", "yarn", "dynamic")
"""Supported rotary scalings. Up to the model's own limit, which is never exceeded, dynamic is default."""
MODEL_HINT = "give a model folder, a .gguf file, a Hugging Face id (owner/name), or a name from `edgeai assets list`"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_COMPUTED = _words(
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
    "max_position_embeddings rms_norm_eps tie_word_embeddings attention_bias mlp_bias sliding_window "
    "use_sliding_window max_window_layers rope_theta"
)
"""Keys that every runtime computes with, whatever their value."""
_WITHOUT_EFFECT = _words(
    # origin and number format
    "model_type _name_or_path name_or_path _model_name_or_path _commit_hash transformers_version torch_dtype dtype "
    "tokenizer_class unsloth_version unsloth_fixed is_llama_config transformers.js_config model_max_length "
    # tokens, which the tokenizer's files decide
    "bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id unk_token_id decoder_start_token_id prefix "
    # training
    "initializer_range attention_dropout hidden_dropout residual_dropout resid_pdrop embd_pdrop attn_pdrop "
    "gradient_checkpointing neftune_noise_alpha "
    # how, not what, transformers computes
    "use_cache pretraining_tp attn_implementation _attn_implementation _attn_implementation_autoset "
    "_flash_attn_2_enabled use_flash_attn use_bfloat16 torchscript chunk_size_feed_forward "
    # outputs and classification
    "output_attentions output_hidden_states return_dict use_return_dict id2label label2id num_labels problem_type "
    "finetuning_task task_specific_params "
    # defaults of sampling
    "max_length min_length max_new_tokens do_sample early_stopping num_beams num_beam_groups diversity_penalty "
    "temperature top_k top_p typical_p min_p repetition_penalty length_penalty no_repeat_ngram_size "
    "encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores return_dict_in_generate "
    "forced_bos_token_id forced_eos_token_id remove_invalid_values exponential_decay_length_penalty "
    "suppress_tokens begin_suppress_tokens"
)
"""Keys that change no logits of a trained model."""
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "is_decoder": (True, False),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "pruned_heads": ({},),
    "partial_rotary_factor": (1, 1.0),
    "rope_interleaved": (False,),
    "use_mrope": (False,),
    "rope_ratio": (1, 1.0),
}
"""Keys of related models, with the values at which they change nothing."""
_ROTARY = _words(
    "rope_type type rope_theta factor original_max_position_embeddings attention_factor beta_fast beta_slow mscale "
    "mscale_all_dim truncate low_freq_factor high_freq_factor"
)
_QUANTIZED = ("quantization_config", "compression_config", "quantization")


def check_model_config(config: Mapping[str, Any], name: str) -> None:
    """Check the content of a config.json.

    Args:
        config: The parsed file.
        name: Name of the model in messages.

    Raises:
        UsageError: The model is of another family, is quantized, needs code of its own, or has a key or a value that
            is not known to leave the result as it is.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UsageError(
            f"'{name}' has the model type '{family}'; supported types are {', '.join(FAMILIES)}", hint=MODEL_HINT
        )
    check_no_code(config, name)
    for key in _QUANTIZED:
        if config.get(key):
            raise UsageError(
                f"'{name}' holds weights quantized by another tool ({key}: {_method(config[key])})",
                hint="give the unquantized checkpoint, or a GGUF file",
            )
    architectures = config.get("architectures") or []
    if not set(architectures) <= set(FAMILIES[family]):
        raise _refusal(name, "architectures", architectures, f"only {FAMILIES[family][0]} is supported")
    _check_keys(config, name, family)
    _check_rotary(config, name)


def check_no_code(config: Mapping[str, Any], name: str) -> None:
    """Check that a config names no Python code of the model's own.

    Raises:
        UsageError: It does; the code is neither loaded nor run.
    """
    if found := config.get("auto_map"):
        classes = ", ".join(sorted(found)) if isinstance(found, Mapping) else found
        raise UsageError(
            f"'{name}' needs Python code of its own (auto_map: {classes}), which is never executed",
            hint=f"give a checkpoint of the type {', '.join(FAMILIES)} without auto_map",
        )


def _check_keys(config: Mapping[str, Any], name: str, family: str) -> None:
    for key, value in config.items():
        if value is None or key in _COMPUTED or key in _WITHOUT_EFFECT or key in ("auto_map", *_QUANTIZED):
            continue
        if key in ("architectures", "rope_scaling", "rope_parameters"):
            continue
        if key == "hidden_act":
            if value not in ACTIVATIONS:
                raise _refusal(name, key, value, f"supported are {', '.join(ACTIVATIONS)}")
        elif key == "layer_types" and family in ("qwen2", "qwen3"):
            _check_layer_types(config, name, value)
        elif not any(value == allowed and type(value) is type(allowed) for allowed in _ONLY.get(key, ())):
            hint = "its effect is not known; delete the key if the model computes the same without it"
            raise _refusal(name, key, value, hint)


def _check_layer_types(config: Mapping[str, Any], name: str, value: Any) -> None:
    kinds = set(value) if isinstance(value, list) else {str(value)}
    if not kinds <= {"full_attention", "sliding_attention"}:
        raise _refusal(name, "layer_types", value, "supported are full_attention and sliding_attention")
    if "sliding_attention" in kinds and not (config.get("use_sliding_window") and config.get("sliding_window")):
        raise _refusal(name, "layer_types", value, "sliding_attention needs use_sliding_window and sliding_window")


def _check_rotary(config: Mapping[str, Any], name: str) -> None:
    for key in ("rope_scaling", "rope_parameters"):
        rotary = config.get(key)
        if rotary is None:
            continue
        if not isinstance(rotary, Mapping):
            raise _refusal(name, key, rotary, "it is not an object")
        kind = rotary.get("rope_type", rotary.get("type", "default"))
        if kind not in ROTARY_KINDS:
            raise _refusal(name, f"{key}.rope_type", kind, f"supported are {', '.join(ROTARY_KINDS)}")
        for inner, value in rotary.items():
            is_whole = inner == "partial_rotary_factor" and value == 1
            if inner not in _ROTARY and not is_whole and value is not None:
                raise _refusal(name, f"{key}.{inner}", value, "its effect is not known")


def _method(found: Any) -> str:
    return str(found.get("quant_method") or found.get("quant_algo") or "unknown") if isinstance(found, Mapping) else "?"


def _refusal(name: str, key: str, value: Any, hint: str) -> UsageError:
    shown = str(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return UsageError(f"'{name}' has {key}: {shown} in its config.json, which is not supported", hint=hint)
