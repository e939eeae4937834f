"""Checkpoints of street nets and sam-tiny: config.json and model.safetensors.

Tensors with two or more axes are stored as float16, the others (biases, BatchNorm) as float32, so that running
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
"""Weights shipped with the package: street-edge, street-cloud, sam-tiny."""


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint folder."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    """Tensors, floating-point ones as float32."""


def save_model(folder: Path, model: TorchModel, provenance: Mapping[str, Any]) -> str:
    """Save a street net atomically.

    Args:
        folder: Checkpoint folder, created if missing.
        model: Street net with its own classes.
        provenance: Command, config, steps and results of the training.

    Returns:
        The digest of the weights as stored.

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
    """Load a street net, with the classes it was trained for.

    Args:
        path: Checkpoint folder, or a run directory of `edgeai collab pretrain`.
        device: Torch device.

    Raises:
        UsageError: The checkpoint is missing or damaged.
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
        The digest of the state as `read_checkpoint` returns it.

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
    """Read a checkpoint folder.

    Raises:
        UsageError: The folder is unreadable, has another kind, or its weights do not match the digest.
    """
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = _as_float32(load_file(folder / WEIGHTS))
    except (OSError, ValueError, SafetensorError) as error:
        raise _damaged(folder, str(error)) from None
    if config.get("kind") != kind:
        raise UsageError(f"{folder} contains a {config.get('kind')}, not a {kind}", hint="give another folder")
    found = state_digest(tensors)
    if found != config.get("digest"):
        raise _damaged(folder, f"its weights have the digest {found}, not {config.get('digest')}")
    return Checkpoint(config, tensors)


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint folder of a path: the path itself, or the best (else last) checkpoint of a run.

    Raises:
        UsageError: The path has no checkpoint.
    """
    for folder in (path, path / "best", path / "last"):
        if (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file():
            return folder
    raise UsageError(
        f"no weights in {path}: it has no {CONFIG} and {WEIGHTS}",
        hint="give such a folder or a run directory of `edgeai collab pretrain`",
    )


def shipped_checkpoint(name: str, part: str) -> Path:
    """Return the folder of weights shipped with the package.

    Args:
        name: Name of the weights: street-edge, street-cloud or sam-tiny.
        part: Name of the part in `collab pretrain`.

    Raises:
        UsageError: The package does not contain these weights.
    """
    folder = SHIPPED / name
    if not (folder / WEIGHTS).is_file():
        raise UsageError(
            f"this package does not contain weights for {name}",
            hint=f"train them: edgeai collab pretrain -s part.kind={part}",
        )
    return folder


def load_strictly(net: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load tensors into a net; all names and shapes must match.

    Raises:
        UsageError: A name or shape does not match; the first three are listed.
    """
    expected = net.state_dict()
    problems = [f"missing {name}" for name in expected if name not in tensors]
    problems += [f"unknown {name}" for name in tensors if name not in expected]
    problems += [
        f"{name} is {list(tensor.shape)}, not {list(expected[name].shape)}"
        for name, tensor in tensors.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    if problems:
        raise UsageError(
            f"{where}: the tensors do not match the net: {', '.join(problems[:3])}"
            + (f" and {len(problems) - 3} more" if len(problems) > 3 else ""),
            hint="give the checkpoint of the model that the config names",
        )
    net.load_state_dict(dict(tensors))


def _as_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def _damaged(folder: Path, reason: str) -> UsageError:
    return UsageError(f"no usable weights in {folder}: {reason}", hint="copy or train them again")
