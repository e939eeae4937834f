"""The one loader of targets: chooses the runtime."""

from __future__ import annotations

import torch

from edgeai.core.device import choose_dtype
from edgeai.core.errors import UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.target.checkpoint_loading import load_checkpoint
from edgeai.spec.target.loading import default_aux_layers, gguf_path, gguf_tokenizer, load_torch_target
from edgeai.spec.target.native.gguf_file import read_gguf
from edgeai.spec.target.native.library import Unavailable, load_library
from edgeai.spec.target.native.packed_model import PackedModel
from edgeai.spec.target.native.target import NativeTarget
from edgeai.spec.target.protocol import Target, Tokenizer


def build_target(
    config: TargetConfig, *, device: str, metrics: Metrics, aux_layers: tuple[int, ...] | None = None
) -> Target:
    """Load the target on the runtime that its config names; auto takes the native one where it can run the model.

    Args:
        config: Model, number format and runtime.
        device: Torch device string.
        metrics: Receiver of download and conversion progress, and of the choice of the runtime.
        aux_layers: Feature layers; None selects `default_aux_layers`.

    Raises:
        UsageError: The native runtime is asked for and cannot run this model, or not on this machine; or a name in
            `chat_template_kwargs` is not allowed.
        EdgeAIError: The model cannot be found or is not a supported causal LM.
    """
    target = _build(config, device=device, metrics=metrics, aux_layers=aux_layers)
    if config.chat_template_kwargs:
        target.tokenizer = target.tokenizer.with_template_values(config.chat_template_kwargs)
    return target


def _build(config: TargetConfig, *, device: str, metrics: Metrics, aux_layers: tuple[int, ...] | None) -> Target:
    if config.weights != "as_is" and config.runtime == "torch":
        raise UsageError(
            f"target.weights={config.weights} works on the native runtime only", hint="use -s target.runtime=native"
        )
    if config.runtime != "torch":
        try:
            return _build_native(config, device=device, metrics=metrics, aux_layers=aux_layers)
        except Unavailable as error:
            if config.runtime == "native" or config.weights != "as_is":
                rest = "" if config.weights == "as_is" else " -s target.weights=as_is"
                rest += f", or install what is missing: {error.paste}" if error.paste else ""
                raise UsageError(
                    f"the native runtime cannot run {config.model} here: {error}",
                    hint=f"use -s target.runtime=torch{rest}",
                ) from error
            cure = f"; for the native runtime: {error.paste}" if error.paste else ""
            metrics.note(f"target.runtime: auto: torch, because {error}{cure}")
    return load_torch_target(config, device=device, metrics=metrics, aux_layers=aux_layers)


def _build_native(
    config: TargetConfig, *, device: str, metrics: Metrics, aux_layers: tuple[int, ...] | None
) -> NativeTarget:
    """Pack the weights of a GGUF file or a Hugging Face checkpoint.

    Raises:
        Unavailable: The native runtime cannot do this; the text says why.
    """
    if device != "cpu":
        raise Unavailable(f"it runs on the CPU, not on {device}")
    if config.runtime == "auto" and config.dtype != "auto":
        raise Unavailable(f"target.dtype={config.dtype} is a number format of torch")
    path = gguf_path(config.model, metrics)
    if path is None and config.runtime == "auto" and config.weights == "as_is":
        raise Unavailable("the model is not a GGUF file")
    if path is not None and config.weights != "as_is":
        raise UsageError(
            f"target.weights={config.weights} quantizes Hugging Face checkpoints; {config.model} is a GGUF file",
            hint="use -s target.weights=as_is",
        )
    library, threads = load_library(), torch.get_num_threads()
    dtype = getattr(torch, choose_dtype(config.dtype, device))

    def make(model: PackedModel, tokenizer: Tokenizer) -> NativeTarget:
        return NativeTarget(
            model=model,
            library=library,
            tokenizer=tokenizer,
            name=config.model,
            dtype=dtype,
            aux_layers=aux_layers or default_aux_layers(model.shape.num_layers),
            threads=threads,
        )

    if path is None:
        target = load_checkpoint(config.model, config.weights, library, threads=threads, metrics=metrics, make=make)
    else:
        target = make(read_gguf(path, library), gguf_tokenizer(path))
    why = "auto: " if config.runtime == "auto" else ""
    metrics.note(f"target.runtime: {why}native on {library.name}, {threads} threads")
    return target
