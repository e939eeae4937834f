"""A tiny Llama as a GGUF file, and the compiled library."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter, quants
from safetensors.numpy import load_file

from edgeai.spec.target.native.library import Unavailable, load_library
from edgeai.spec.tiny import HEADS, HIDDEN, INTERMEDIATE, KV_HEADS, LAYERS, write_tiny_model

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
KEYS = {
    "block_count": LAYERS,
    "context_length": 512,
    "embedding_length": HIDDEN,
    "feed_forward_length": INTERMEDIATE,
    "attention__head_count": HEADS,
    "attention__head_count_kv": KV_HEADS,
    "attention__layer_norm_rms_epsilon": 1e-5,
    "rope__freq_base": 10000.0,
}


@pytest.fixture(scope="session")
def library():
    try:
        return load_library()
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "model"
    write_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def write_gguf(tiny_folder, tmp_path_factory):
    """write_gguf(kind, arch="llama", drop=(), extra={}, **keys): the tiny model with its matrices in this type.

    float32 is the original. `drop` leaves tensors out, `extra` adds or replaces some, `keys` does so with keys ("__"
    is a dot; None leaves one out).
    """

    def write(kind, arch="llama", drop=(), extra=None, **keys):
        weights, extra = load_file(tiny_folder / "model.safetensors"), extra or {}
        path = tmp_path_factory.mktemp("gguf") / f"tiny-{kind}.gguf"
        writer = GGUFWriter(path, arch)
        for name, value in {**KEYS, **keys}.items():
            if value is not None:
                typed = {str: "string", int: "uint32", float: "float32", list: "array"}[type(value)]
                getattr(writer, f"add_{typed}")(f"{arch}.{name.replace('__', '.')}", value)

        def add(name, array):
            if name in drop or name in extra:
                return
            if array.ndim == 1 or kind == "F32":
                writer.add_tensor(name, array)
                return
            found = GGMLQuantizationType[kind]
            writer.add_tensor(name, quants.quantize(array, found), raw_dtype=found)

        def permuted(array, heads):  # rotary pairs side by side, as in llama's files
            return np.ascontiguousarray(array.reshape(heads, 2, -1, HIDDEN).swapaxes(1, 2).reshape(array.shape))

        add("token_embd.weight", weights["model.embed_tokens.weight"])
        add("output_norm.weight", weights["model.norm.weight"])
        add("output.weight", weights["lm_head.weight"])
        for index in range(LAYERS):
            at = f"model.layers.{index}"
            add(f"blk.{index}.attn_norm.weight", weights[f"{at}.input_layernorm.weight"])
            add(f"blk.{index}.ffn_norm.weight", weights[f"{at}.post_attention_layernorm.weight"])
            for theirs, ours in NAMES.items():
                array = weights[f"{at}.{theirs}.weight"]
                if arch == "llama" and ours in ("attn_q", "attn_k"):
                    array = permuted(array, HEADS if ours == "attn_q" else KV_HEADS)
                add(f"blk.{index}.{ours}.weight", array)
        for name, array in extra.items():
            writer.add_tensor(name, array)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write
