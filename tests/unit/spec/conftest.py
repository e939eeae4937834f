"""The tiny model as a folder, text it wrote, and a training config over it that runs in about a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from edgeai.core.metrics import Metrics
from edgeai.core.run import Run
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.config.train import DataConfig, HeadConfig, LossConfig, OptimConfig, TrainConfig
from edgeai.spec.data.answers import write_conversations
from edgeai.spec.target import build
from edgeai.spec.target.build import build_target
from edgeai.spec.target.native.library import Library, Unavailable, load_library
from edgeai.spec.target.native.target import NativeTarget
from edgeai.spec.target.torch_runtime import DecoderTarget
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
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `python -m edgeai.spec.tiny` writes."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    write_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_target(tiny_folder: Path) -> DecoderTarget:
    """The tiny model, loaded as any other."""
    return build_target(TargetConfig(model=str(tiny_folder), dtype="float32"), device="cpu", metrics=Metrics(None))


@pytest.fixture(scope="session")
def tiny_prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty prompts, one a line."""
    file = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    file.write_text("".join(f"Tell me about number {n} and {n * n % 17}.\n" for n in range(40)))
    return file


@pytest.fixture(scope="session")
def tiny_answers(tmp_path_factory: pytest.TempPathFactory, tiny_target: DecoderTarget, tiny_prompts: Path) -> Path:
    """The tiny model's answers to them, at temperatures 0 and 1 in turn."""
    file = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    config = DataConfig(prompts=(str(tiny_prompts),), max_answer_tokens=40, max_len=128)
    write_conversations(tiny_target, config, path=file, seed=0, metrics=Metrics(None))
    return file


@pytest.fixture(scope="session")
def train_config(tiny_folder: Path, tiny_answers: Path) -> Callable[..., TrainConfig]:
    """train_config(data={}, loss={}, optim={}, head={}, **others): changes to the usual config."""

    def make(**changes: Any) -> TrainConfig:
        parts = {
            "data": (DataConfig, {"answers": tiny_answers, "val_frac": 0.2}),
            "head": (HeadConfig, {"draft_vocab": 96}),
            "loss": (LossConfig, {"ttt_steps": 3}),
            "optim": (OptimConfig, {"lr": 5e-3, "batch_tokens": 512, "autocast": False}),
        }
        built = {name: schema(**{**usual, **changes.pop(name, {})}) for name, (schema, usual) in parts.items()}
        target = TargetConfig(model=str(tiny_folder), dtype="float32")
        return TrainConfig(target=target, **built, **{"epochs": 2, "val_every": 4, **changes})

    return make


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """make_run(cfg, name="run", listener=None): a run directory below tmp_path."""

    def make(cfg: TrainConfig, name: str = "run", listener: Any = None) -> Run:
        return Run.create(cfg, out=tmp_path / name, argv=[], device="cpu", device_why="test", listener=listener)

    return make


@pytest.fixture(scope="session")
def library():
    """The compiled native runtime; skips where it cannot run."""
    try:
        return load_library()
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def write_gguf(tiny_folder, tmp_path_factory):
    """write_gguf(kind, arch="llama", drop=(), extra={}, **keys): the tiny model with its matrices in this type.

    float32 is the original. `drop` leaves tensors out, `extra` adds or replaces some, `keys` does so with keys ("__"
    is a dot; None leaves one out; the names of split files have no architecture before them).
    """

    from gguf import GGMLQuantizationType, GGUFWriter, quants

    def write(kind, arch="llama", drop=(), extra=None, **keys):
        weights, extra = load_file(tiny_folder / "model.safetensors"), extra or {}
        path = tmp_path_factory.mktemp("gguf") / f"tiny-{kind}.gguf"
        writer = GGUFWriter(path, arch)
        for name, value in {**KEYS, **keys}.items():
            if value is not None:
                typed = {str: "string", int: "uint32", float: "float32", list: "array"}[type(value)]
                prefix = "" if name.startswith("split__") else f"{arch}."
                getattr(writer, f"add_{typed}")(f"{prefix}{name.replace('__', '.')}", value)

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


@pytest.fixture
def tiny_tokenizer(tiny_target, monkeypatch):
    """Makes GGUF files of the tiny model load with its own tokenizer, which they do not hold."""
    monkeypatch.setattr(build, "gguf_tokenizer", lambda _: tiny_target.tokenizer)


@pytest.fixture
def native(library, write_gguf, tiny_tokenizer, monkeypatch):
    """native(kind, threads=1, variant=None, arch="llama"): the tiny model on the native runtime."""
    files = {}

    def load(kind, threads=1, variant=None, arch="llama"):
        path = files.setdefault((kind, arch), write_gguf(kind, arch))
        found = library if variant is None else Library(library.handle, variant, "test")
        monkeypatch.setattr(build, "load_library", lambda: found)
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        config = TargetConfig(model=str(path), dtype="float32", runtime="native")
        target = build_target(config, device="cpu", metrics=Metrics(None))
        assert isinstance(target, NativeTarget)
        return target

    return load
