"""Files of a draft head (config.json and weights): finding, reading and writing them, in any tool's format."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgeai.core.errors import UsageError
from edgeai.spec.target.protocol import Target

WEIGHTS = "model.safetensors"
OLD_WEIGHTS = "pytorch_model.bin"  # weight file of heads from the EAGLE repository
CONFIG = "config.json"
SHIPPED = Path(__file__).parent.parent / "heads"


@dataclass(frozen=True)
class HeadFiles:
    """Content of a head's folder, not yet interpreted."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor] = field(repr=False)
    note: Mapping[str, Any]
    """Entry written by edgeai: target, fingerprint, metrics; empty for heads of other tools."""

    @property
    def is_own(self) -> bool:
        """Whether the files are in the edgeai format."""
        return "edgeai" in self.config

    @property
    def target_name(self) -> str:
        """Name of the target in the files, or ""."""
        group: Any = self.config
        for key in ("speculators_config", "verifier"):
            group = group.get(key) or {} if isinstance(group, dict) else {}
        return str(self.note.get("target") or group.get("name_or_path") or "")


def write_files(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], note: Mapping[str, str] | None = None
) -> None:
    """Write config.json and the weights.

    Args:
        folder: Folder of the head; created if missing.
        config: Content of config.json.
        tensors: Contiguous tensors on the CPU.
        note: Text stored in the header of the weights, which loaders ignore.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / WEIGHTS, {"format": "pt", **(note or {})})
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read_files(path: Path) -> HeadFiles:
    """Read the head at a path, as resolved by `find_head`.

    Raises:
        UsageError: There is no head, or it cannot be read.
    """
    folder = find_head(path)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("config.json is not an object")
        tensors, header = _read_tensors(folder)
        note = config.get("edgeai") or json.loads(header.get("edgeai", "{}"))
        if not isinstance(note, dict):
            raise ValueError("its edgeai entry is not an object")
        return HeadFiles(folder, config, tensors, note)
    except (OSError, ValueError, SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise unreadable_head(folder, error) from error


def _read_tensors(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return all tensors of the weight file and the texts in its header."""
    if (folder / WEIGHTS).is_file():
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    found = torch.load(folder / OLD_WEIGHTS, map_location="cpu", weights_only=True)
    if not (isinstance(found, dict) and all(isinstance(tensor, Tensor) for tensor in found.values())):
        raise ValueError(f"{OLD_WEIGHTS} is not a dictionary of tensors")
    return found, {}


def unreadable_head(folder: Path, error: Exception) -> UsageError:
    """Return the error for a folder whose head cannot be read."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UsageError(f"{folder} does not contain a readable draft head: {reason}", hint="train one: edgeai spec train")


def find_head(path: Path) -> Path:
    """Return the head's folder: the path itself, the best (else last) head of a run, or a shipped head by name."""
    for folder in (path, path / "best", path / "last", SHIPPED / path):
        if (folder / CONFIG).is_file() and any((folder / name).is_file() for name in (WEIGHTS, OLD_WEIGHTS)):
            return folder
    raise UsageError(
        f"no draft head in {path}", hint="give a checkpoint folder or a run directory of `edgeai spec train`"
    )


def shipped_head(target: Target) -> Path | None:
    """Return the head shipped for exactly these target weights, if there is one."""
    for file in sorted(SHIPPED.glob(f"*/{CONFIG}")):
        recorded = json.loads(file.read_text(encoding="utf-8"))["edgeai"]["fingerprint"]
        if recorded in (target.fingerprint, target.former_fingerprint):
            return file.parent
    return None
