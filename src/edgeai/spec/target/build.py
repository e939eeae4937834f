"""The target on the runtime that its config names."""

from __future__ import annotations

from pathlib import Path

import torch

from edgeai.core import assets
from edgeai.core.device import choose_dtype
from edgeai.core.errors import UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.target.loading import default_aux_layers, gguf_tokenizer, load_target
from edgeai.spec.target.native.gguf_file import read_gguf
from edgeai.spec.target.native.library import Unavailable, load_library
from edgeai.spec.target.native.target import NativeTarget
from edgeai.spec.target.protocol import Target


def build_target(config: TargetConfig, *, device: str, metrics: Metrics) -> Target:
    """Load the target on the runtime that its config names.

    Args:
        config: Model, number format and runtime.
        device: Torch device string.
        metrics: Receiver of download and conversion progress.

    Raises:
        UsageError: The native runtime cannot run this model, or not on this machine.
        EdgeAIError: The model cannot be found or is not a supported causal LM.
    """
    if config.runtime == "native":
        return _build_native(config, device=device, metrics=metrics)
    return load_target(config, device=device, metrics=metrics)


def _build_native(config: TargetConfig, *, device: str, metrics: Metrics) -> NativeTarget:
    hint = "use -s target.runtime=torch"
    if device != "cpu":
        raise UsageError(f"the native runtime runs on the CPU, not on {device}", hint=f"use --device cpu, or {hint}")
    path = assets.fetch(config.model, metrics) if config.model in assets.ASSETS else Path(config.model)
    if path.suffix != ".gguf" or not path.is_file():
        raise UsageError(f"the native runtime reads GGUF files; {config.model} is not one", hint=hint)
    try:
        library = load_library()
        model = read_gguf(path, library)
    except Unavailable as error:
        raise UsageError(f"the native runtime cannot run {config.model} here: {error}", hint=hint) from error
    threads = torch.get_num_threads()
    metrics.note(f"native runtime on {library.name}, {threads} threads")
    return NativeTarget(
        model=model,
        library=library,
        tokenizer=gguf_tokenizer(path),
        name=config.model,
        dtype=getattr(torch, choose_dtype(config.dtype, device)),
        aux_layers=default_aux_layers(model.shape.num_layers),
        threads=threads,
    )
