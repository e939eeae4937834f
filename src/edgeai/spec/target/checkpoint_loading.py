"""Hugging Face checkpoints on the native runtime: as they are stored, or quantized once into the cache."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from edgeai.core import assets
from edgeai.core.errors import EdgeAIError
from edgeai.core.files import write_whole
from edgeai.core.metrics import Metrics
from edgeai.spec.config.target import Weights
from edgeai.spec.target import saved_tokenizer
from edgeai.spec.target.checks.tensors import check_tensors
from edgeai.spec.target.conversion import rotary_of, shape_of
from edgeai.spec.target.loading import file_key, model_folder, read_config, read_tokenizer
from edgeai.spec.target.native.checkpoint import Checkpoint, hyperparameters, open_checkpoint, weight_files
from edgeai.spec.target.native.gguf_file import read_gguf
from edgeai.spec.target.native.library import Library, Unavailable
from edgeai.spec.target.native.packed_model import Hyperparameters, PackedModel
from edgeai.spec.target.native.packing import pack_model
from edgeai.spec.target.native.quantize import VERSION, Bits, write_quantized
from edgeai.spec.target.native.rotary import Rotary
from edgeai.spec.target.native.target import NativeTarget
from edgeai.spec.target.protocol import Tokenizer
from edgeai.spec.target.quality import Agreement, builtin_texts, measure_agreement

ROTARY_KINDS = ("default", "linear", "llama3", "yarn")
"""Scalings whose frequencies do not depend on the length of the text."""
MakeTarget = Callable[[PackedModel, Tokenizer], NativeTarget]


def load_checkpoint(
    model: str, weights: Weights, library: Library, *, threads: int, metrics: Metrics, make: MakeTarget
) -> NativeTarget:
    """Load a checkpoint, and say what quantizing its weights costs.

    Args:
        model: Folder or Hugging Face id.
        weights: Kind of weights.
        library: The compiled library.
        threads: Threads that pack and quantize.
        metrics: Receiver of progress.
        make: Makes a target of packed weights and a tokenizer.

    Raises:
        EdgeAIError: The checkpoint is damaged.
        Unavailable: The native runtime does not support it.
    """
    folder = _local_folder(model, metrics)
    tokenizer = _tokenizer(folder, model)
    if weights == "as_is":
        return make(_pack_as_is(folder, model, library, threads), tokenizer)
    path = assets.cache_dir() / "models" / f"{_key(folder)}.{weights}.gguf"
    if not path.is_file():
        metrics.note(f"quantizing {model} to {weights} (once)")
        _quantize(folder, model, weights, path, library, threads)
    target = make(read_gguf(path, library), tokenizer)
    agreement = _agreement(path, target, lambda: make(_pack_as_is(folder, model, library, threads), tokenizer))
    metrics.note(
        f"target.weights: {weights}: mean KL {agreement.mean_kl_nats:.4f} nats, top-1 agreement "
        f"{agreement.top1_agreement:.1%} with the unquantized weights on the built-in prompts "
        f"({agreement.num_tokens} tokens)"
    )
    return target


def _local_folder(model: str, metrics: Metrics) -> Path:
    folder = Path(model_folder(model, metrics))
    return folder if folder.is_dir() else assets.fetch(model, metrics)


def _key(folder: Path) -> str:
    """A name that changes when the weights, the config or the quantization do."""
    files = [folder / "config.json", *weight_files(folder)]
    try:
        digest = hashlib.sha256(repr((VERSION, [file_key(path) for path in files])).encode())
    except OSError as error:
        raise EdgeAIError(f"cannot read {error.filename}: {error.strerror}") from error
    return f"{folder.resolve().name}-{digest.hexdigest()[:12]}"


def _pack_as_is(folder: Path, model: str, library: Library, threads: int) -> PackedModel:
    with _opened(folder, model) as (checkpoint, sizes):
        return pack_model(checkpoint, sizes, library, threads=threads)


def _quantize(folder: Path, model: str, bits: Bits, path: Path, library: Library, threads: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _opened(folder, model) as (checkpoint, sizes):
            write_quantized(checkpoint, sizes, bits, partial, library, threads=threads)
        partial.replace(path)
    except OSError as error:
        raise EdgeAIError(f"cannot write {path}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _opened(folder: Path, model: str) -> Iterator[tuple[Checkpoint, Hyperparameters]]:
    """Open a checkpoint whose tensors are exactly those of its config."""
    config = read_config(str(folder), model)
    sizes = hyperparameters(config, shape_of(config, vocab_size=config.vocab_size), _rotary(config))
    with open_checkpoint(folder, config) as checkpoint:
        check_tensors(checkpoint.shapes, _shapes(config, checkpoint.shapes), model)
        yield checkpoint, sizes


def _shapes(config: Any, stored: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of the model in transformers; copies of tied ones need not be stored."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    tied = made.get_expanded_tied_weights_keys(all_submodels=True)
    return {name: tuple(value.shape) for name, value in made.state_dict().items() if name not in tied or name in stored}


def _rotary(config: Any) -> Rotary:
    """The frequencies that transformers computes."""
    kind = config.rope_parameters["rope_type"]
    if kind not in ROTARY_KINDS:
        raise Unavailable(f"its rotary scaling has the type '{kind}'")
    return Rotary(*rotary_of(config))


def _tokenizer(folder: Path, model: str) -> Tokenizer:
    files = sorted(path for pattern in ("*.json", "*.jinja") for path in folder.glob(pattern))
    digest = hashlib.sha256(repr([file_key(path) for path in files]).encode()).hexdigest()[:12]
    cached = assets.cache_dir() / "tokenizers" / f"{folder.resolve().name}-{digest}"
    saved = saved_tokenizer.read_saved(cached)
    if saved is not None:
        return saved
    found, theirs = read_tokenizer(str(folder), model)
    if theirs.is_fast:
        theirs.save_pretrained(cached)
        saved_tokenizer.save(cached, found, theirs)
    return found


def _agreement(path: Path, target: NativeTarget, unquantized: Callable[[], NativeTarget]) -> Agreement:
    """The stored measurement beside a quantized file, made now if there is none."""
    record = path.with_suffix(".json")
    try:
        return Agreement(**json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        found = measure_agreement(unquantized(), target, builtin_texts(target.tokenizer))
        write_whole(record, json.dumps(asdict(found)))
        return found
