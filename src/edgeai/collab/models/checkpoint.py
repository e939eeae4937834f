"""Street nets on disk: config.json + model.safetensors.

Weights with two or more axes are stored as float16, the rest (biases, BatchNorm) as float32: small, and running
variances keep their range.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgeai.collab.models.class_map import ClassMap
from edgeai.collab.models.inputs import InputFormat
from edgeai.collab.models.state import state_digest
from edgeai.collab.models.street_net import StreetNet, StreetNetShape
from edgeai.collab.models.torch_model import TorchModel
from edgeai.core.checkpoint import replacing_files
from edgeai.core.errors import UsageError
from edgeai.core.files import json_text

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
SHIPPED = Path(__file__).parent.parent / "weights"
"""Weights that come with the package: street-edge, street-cloud, sam-tiny."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder's content."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    """All floats as float32."""


def save_model(folder: Path, model: TorchModel, provenance: Mapping[str, Any]) -> str:
    """Write a street net; a reader never sees half of it.

    Args:
        folder: Made if it is not there.
        model: A street net with its own classes.
        provenance: How it came to be: command, seed, steps, results.

    Returns:
        The digest of the model as it will read back.

    Raises:
        EdgeAIError: The disk is full.
    """
    net = model.net
    if not isinstance(net, StreetNet):
        raise TypeError(f"only street nets are stored, not {type(net).__name__}")
    form = model.input_format
    config = {
        "kind": "street_net",
        "shape": asdict(net.shape),
        "classes": list(model.classes),
        "input": {"mean": list(form.mean), "std": list(form.std), "order": form.order},
        "provenance": dict(provenance),
    }
    return write_checkpoint(folder, config, net.state_dict())


def load_model(path: Path, device: str) -> TorchModel:
    """Read a street net, with the classes it was trained for.

    Args:
        path: Its folder, or a run directory of `edgeai collab pretrain`.
        device: Where it will run.

    Raises:
        UsageError: No such net there, or a damaged one.
    """
    folder = find_checkpoint(path)
    found = read_checkpoint(folder, kind="street_net")
    try:
        net = StreetNet(StreetNetShape(**found.config["shape"]))
        form = found.config["input"]
        input_format = InputFormat(tuple(form["mean"]), tuple(form["std"]), form["order"])
        classes = tuple(map(str, found.config["classes"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder, f"its config.json is incomplete ({error})") from None
    load_strictly(net, found.tensors, str(folder))
    net.to(device).eval()
    identity = ClassMap([(i,) for i in range(len(classes))], len(classes))
    return TorchModel(net, classes=classes, class_map=identity, input_format=input_format, device=device)


def write_checkpoint(folder: Path, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """Write config.json (the digest added) and model.safetensors.

    Returns:
        The digest of the state as `read_checkpoint` will give it.

    Raises:
        EdgeAIError: The disk is full.
    """
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor).detach().cpu().contiguous()
        for name, tensor in state.items()
    }
    digest = state_digest(_as_float32(tensors))
    with replacing_files(folder, (WEIGHTS, CONFIG)) as partial:
        save_file(tensors, partial / WEIGHTS)
        (partial / CONFIG).write_text(json_text({**config, "digest": digest}) + "\n", encoding="utf-8")
    return digest


def read_checkpoint(folder: Path, *, kind: str) -> Checkpoint:
    """Read a folder that `write_checkpoint` wrote.

    Raises:
        UsageError: It is unreadable, of another kind, or its weights are not those that were written.
    """
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = _as_float32(load_file(folder / WEIGHTS))
    except (OSError, ValueError, SafetensorError) as error:
        raise _damaged(folder, str(error)) from None
    if config.get("kind") != kind:
        raise UsageError(f"{folder} holds a {config.get('kind')}, not a {kind}", hint="give another folder")
    found = state_digest(tensors)
    if found != config.get("digest"):
        raise _damaged(folder, f"its weights have the digest {found}, not {config.get('digest')}")
    return Checkpoint(config, tensors)


def find_checkpoint(path: Path) -> Path:
    """The folder with weights behind a path: itself, or the best (else last) one of a run.

    Raises:
        UsageError: There is none.
    """
    for folder in (path, path / "best", path / "last"):
        if (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file():
            return folder
    raise UsageError(
        f"no weights in {path}: it has no {CONFIG} and {WEIGHTS}",
        hint="give such a folder or a run directory of `edgeai collab pretrain`",
    )


def shipped_checkpoint(name: str, part: str) -> Path:
    """The folder of weights that come with the package.

    Args:
        name: street-edge, street-cloud or sam-tiny.
        part: What `collab pretrain` calls it.

    Raises:
        UsageError: This package comes without them.
    """
    folder = SHIPPED / name
    if not (folder / WEIGHTS).is_file():
        raise UsageError(
            f"no weights for {name} come with this package",
            hint=f"train some: edgeai collab pretrain -s part.kind={part}",
        )
    return folder


def load_strictly(net: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Put tensors into a net; every name and shape must fit.

    Raises:
        UsageError: One does not; the first three are named.
    """
    expected = net.state_dict()
    problems = [f"no {name}" for name in expected if name not in tensors]
    problems += [f"unknown {name}" for name in tensors if name not in expected]
    problems += [
        f"{name} is {list(tensor.shape)}, not {list(expected[name].shape)}"
        for name, tensor in tensors.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    if problems:
        raise UsageError(
            f"{where}: the tensors are not those of this net: {', '.join(problems[:3])}"
            + (f" and {len(problems) - 3} more" if len(problems) > 3 else ""),
            hint="give the checkpoint of the model that the config names",
        )
    net.load_state_dict(dict(tensors))


def _as_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def _damaged(folder: Path, reason: str) -> UsageError:
    return UsageError(f"{folder} holds no usable weights: {reason}", hint="copy or train them again")
