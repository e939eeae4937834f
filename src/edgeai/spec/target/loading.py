"""Loading a target with transformers: checkpoint, tokenizer and chat template."""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch

from edgeai.core import assets
from edgeai.core.device import choose_dtype
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.files import new_folder
from edgeai.core.metrics import Metrics
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.target import saved_tokenizer
from edgeai.spec.target.checks.fingerprint import fingerprint_of_tensors
from edgeai.spec.target.checks.gguf_conversion import check_conversion
from edgeai.spec.target.checks.model_config import MODEL_HINT, check_model_config, check_no_code
from edgeai.spec.target.checks.tensors import check_loading_info
from edgeai.spec.target.conversion import to_decoder
from edgeai.spec.target.native.compilation import Unavailable
from edgeai.spec.target.native.gguf_config import end_tokens, gguf_config
from edgeai.spec.target.native.gguf_file import read_hyperparameters
from edgeai.spec.target.native.gguf_header import Header, read_header
from edgeai.spec.target.native.packed_model import Hyperparameters
from edgeai.spec.target.protocol import (
    ChatTemplateError,
    Message,
    Tokenizer,
    Tools,
    added_once,
    merged_template_values,
)
from edgeai.spec.target.torch_runtime import DecoderTarget


class ChatTokenizer:
    """`Tokenizer` implemented with transformers."""

    def __init__(self, tokenizer: Any, eos_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._template_values: dict[str, Any] = {}
        self.eos_ids = eos_ids

    @property
    def chat_template(self) -> str | None:
        """See `Tokenizer`."""
        found = self._tokenizer.chat_template
        if isinstance(found, dict):  # several templates, of which transformers takes "tool_use" for tools
            found = found.get("tool_use", found.get("default"))
        return str(found) if found else None

    @property
    def definition(self) -> str | None:
        """See `Tokenizer`."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        return None if backend is None else str(backend.to_str())

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer`."""
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def encode_raw(self, text: str) -> list[int]:
        """See `Tokenizer`."""
        return added_once(self.encode(text), list(self._tokenizer.encode(text, add_special_tokens=True)))

    def encode_chat(self, text: str) -> list[int]:
        """See `Tokenizer`."""
        return self.encode(text) if self._tokenizer.chat_template else self.encode_raw(text)

    def decode(self, ids: Sequence[int], *, keep_special: bool = False) -> str:
        """See `Tokenizer`."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=not keep_special))

    def entry(self, token: int) -> str | None:
        """See `Tokenizer`."""
        found = self._tokenizer.convert_ids_to_tokens(token)
        return None if found is None else str(found)

    def render(self, messages: Sequence[Message], *, open_answer: bool, tools: Tools | None = None) -> str:
        """See `Tokenizer`. For a base model without a template the texts are joined."""
        if not self._tokenizer.chat_template:
            return "\n\n".join(m["content"] for m in messages) + ("\n\n" if open_answer else "")
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [dict(m) for m in messages],
                    tools=list(tools) if tools else None,
                    tokenize=False,
                    add_generation_prompt=open_answer,
                    **self._template_values,
                )
            )
        except Exception as error:  # templates come with the models and may raise anything
            raise ChatTemplateError(error) from error

    def with_template_values(self, values: Mapping[str, Any]) -> Self:
        """See `Tokenizer`."""
        other = copy.copy(self)
        other._template_values = merged_template_values(self._template_values, values)
        return other


def load_torch_target(
    config: TargetConfig, *, device: str, metrics: Metrics, aux_layers: tuple[int, ...] | None = None
) -> DecoderTarget:
    """Find the target, convert it if necessary, and load it with torch.

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
    fingerprint = fingerprint_of_tensors(
        hf_model.state_dict(),
        num_layers=hf_model.config.num_hidden_layers,
        is_tied=bool(hf_model.config.tie_word_embeddings),
    )
    decoder, lm_head = to_decoder(hf_model, device)
    return DecoderTarget(
        decoder=decoder,
        lm_head=lm_head,
        tokenizer=read_tokenizer(folder, config.model)[0],
        name=config.model,
        fingerprint=fingerprint.current,
        former_fingerprint=fingerprint.former,
        aux_layers=aux_layers or default_aux_layers(decoder.shape.num_layers),
    )


def model_folder(model: str, metrics: Metrics) -> str:
    """Return the model folder or Hugging Face id of a model name; GGUF files are converted once."""
    if gguf := gguf_path(model, metrics):
        return str(_convert_gguf(gguf, metrics))
    path = Path(model)
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
        return str(assets.fetch(model, metrics))
    if "/" not in model:
        known = ", ".join(sorted(assets.ASSETS))
        raise UsageError(f"no model called '{model}'", hint=f"{MODEL_HINT}; known names: {known}")
    return model


def gguf_path(model: str, metrics: Metrics) -> Path | None:
    """Return the GGUF file of a model name; None if the model is something else."""
    path = Path(model)
    if model in assets.ASSETS and not path.is_dir():
        path = assets.fetch(model, metrics)
    if path.suffix != ".gguf":
        return None
    if not path.is_file():
        raise UsageError(f"no such GGUF file: {model}", hint="give the path of an existing .gguf file")
    return path


def _convert_gguf(path: Path, metrics: Metrics) -> Path:
    """Dequantize a GGUF file to a bfloat16 safetensors folder in the cache, once; a bad folder is made again.

    Raises:
        EdgeAIError: The file is damaged or a part of a file, or transformers does not read all of it.
    """
    folder = assets.cache_dir() / "models" / f"{path.stem}-{file_key(path)}"
    found = _described(path)
    if (folder / "config.json").is_file():
        try:
            check_conversion(path.name, folder, read_config(str(folder), folder.name), *found)
            return folder
        except EdgeAIError:
            shutil.rmtree(folder)
    metrics.note(f"converting {path.name} to safetensors (once)")
    with new_folder(folder) as partial:
        _save_dequantized(path, partial)
        check_conversion(path.name, partial, read_config(str(partial), path.name), *found)
    return folder


def _described(path: Path) -> tuple[Header, Hyperparameters]:
    """Header and hyperparameters of a GGUF file, as the native runtime reads them."""
    try:
        header = read_header(path)
        return header, read_hyperparameters(path, header)
    except Unavailable as error:
        raise EdgeAIError(f"{path} is not supported: {error}", hint=MODEL_HINT) from error


def _save_dequantized(path: Path, folder: Path) -> None:
    """Write the model and the tokenizer of a GGUF file as transformers reads them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _quiet_transformers()
    try:
        model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    except MemoryError:
        raise
    except Exception as error:  # of several libraries, each with errors of its own
        raise EdgeAIError(f"{path} is not a readable GGUF model: {_first_line(error)}") from error
    # transformers keeps the GGUF quantization in the config and then refuses to save the dequantized weights
    model.config.__dict__.pop("quantization_config", None)
    model.hf_quantizer = None
    if model.generation_config is not None and (ends := end_tokens(path)):
        model.generation_config.eos_token_id = sorted(ends)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def gguf_tokenizer(path: Path) -> Tokenizer:
    """Read the tokenizer of a GGUF file, converted once into the cache.

    Raises:
        EdgeAIError: The file has no tokenizer that transformers can read.
    """
    folder = assets.cache_dir() / "tokenizers" / f"{path.stem}-{file_key(path)}"
    saved = saved_tokenizer.read_saved(folder)
    if saved is not None:
        return saved
    from transformers import AutoTokenizer

    _quiet_transformers()
    try:
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, KeyError):  # not there yet, or damaged
            shutil.rmtree(folder, ignore_errors=True)
            with new_folder(folder) as partial:
                AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name).save_pretrained(partial)
            tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise EdgeAIError(f"cannot load the tokenizer of '{path}': {_first_line(error)}") from error
    named = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
    found = ChatTokenizer(tokenizer, end_tokens(path).union(named))
    saved_tokenizer.save(folder, found, tokenizer)
    return found


def file_key(path: Path) -> str:
    """Return a short hash that changes when the file does."""
    stat = path.stat()
    return hashlib.sha256(f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()[:12]


def model_config(model: str, metrics: Metrics) -> dict[str, Any]:
    """Return the config.json of a model as parsed by transformers, without loading weights; see `gguf_config`.

    Raises:
        EdgeAIError: The model cannot be found or is not a supported causal LM.
    """
    if gguf := gguf_path(model, metrics):
        return gguf_config(gguf)
    return dict(read_config(model_folder(model, metrics), model).to_dict())


def read_config(folder: str, name: str) -> Any:
    """Read a causal LM's config with transformers and convert its errors to one-line messages.

    Raises:
        UsageError: There is no config, or this project does not compute what it describes.
    """
    from transformers import AutoConfig, PreTrainedConfig

    _quiet_transformers()
    try:
        raw, _ = PreTrainedConfig.get_config_dict(folder)
    except (OSError, ValueError) as error:
        if Path(folder).is_dir():
            raise UsageError(f"'{name}' has no readable config: {_first_line(error)}", hint=MODEL_HINT) from error
        raise UsageError(
            f"'{name}' is neither a local folder nor in the Hugging Face cache, and downloading it failed",
            hint=f"check the name and the network, or {MODEL_HINT}",
        ) from error
    check_model_config(raw, name)
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # values are checked by several libraries, each with errors of its own
        raise UsageError(f"'{name}' has no readable config: {_first_line(error)}", hint=MODEL_HINT) from error


def _read_checkpoint(folder: str, dtype: str, name: str) -> Any:
    """Load a causal LM with transformers and convert its errors to one-line messages."""
    from transformers import AutoModelForCausalLM

    read_config(folder, name)
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            low_cpu_mem_usage=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported, and refused below
            trust_remote_code=False,
        )
    except MemoryError:
        raise
    except Exception as error:  # damaged files end in errors of several libraries
        raise EdgeAIError(f"cannot load the weights of '{name}': {_first_line(error)}", hint=MODEL_HINT) from error
    check_loading_info(info, name)
    return model.eval()


def read_tokenizer(folder: str, name: str) -> tuple[ChatTokenizer, Any]:
    """Read the tokenizer of a model with all tokens that end an answer; also returns the object of transformers.

    Raises:
        EdgeAIError: The model has no tokenizer that transformers can read.
    """
    from transformers import AutoTokenizer, GenerationConfig
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    config = read_config(folder, name)
    check_no_code(get_tokenizer_config(folder), f"the tokenizer of {name}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise EdgeAIError(f"cannot load the tokenizer of '{name}': {_first_line(error)}") from error
    try:
        generation = GenerationConfig.from_pretrained(folder)
    except (OSError, ValueError):  # most models without one say it in their config
        generation = None
    eos: set[int] = set()
    for value in (getattr(generation, "eos_token_id", None), config.eos_token_id, tokenizer.eos_token_id):
        eos.update(value if isinstance(value, list) else [] if value is None else [value])
    return ChatTokenizer(tokenizer, frozenset(eos)), tokenizer


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
    ones. Three different layers take a model of at least three.
    """
    if num_layers >= 8:
        return 2, num_layers // 2, num_layers - 3
    return max(0, min(1, num_layers - 3)), num_layers // 2, num_layers - 1
