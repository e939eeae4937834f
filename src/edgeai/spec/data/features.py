"""Target features of training text: auxiliary features, final states and greedy choice at every position.

Cached features are written once as safetensors shards and read row by row; online features are recomputed for each
batch.

Shapes: B sequences, T positions, H hidden.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.files import write_whole
from edgeai.core.metrics import Metrics
from edgeai.core.run import is_alive
from edgeai.spec.data.conversation import Conversation
from edgeai.spec.data.train_batch import TrainBatch, pack_in_order, pad_ids, queries_of
from edgeai.spec.target.protocol import Target

SHARD_TOKENS = 65536


class FeatureSource(Protocol):
    """Source of training batches."""

    def batch(self, numbers: Sequence[int]) -> TrainBatch:
        """Return the batch of the conversations with these numbers."""


class OnlineFeatures:
    """Runs the target for every batch.

    Args:
        target: Target to train for.
        conversations: Training texts.
    """

    def __init__(self, target: Target, conversations: Sequence[Conversation]) -> None:
        self._target = target
        self._conversations = conversations

    def batch(self, numbers: Sequence[int]) -> TrainBatch:
        """See `FeatureSource`."""
        chosen = [self._conversations[n] for n in numbers]
        ids = pad_ids(chosen).to(self._target.device)
        features, hidden, best = self._target.features_and_choices(ids)
        return TrainBatch(ids, features.clone(), hidden.clone(), best.clone(), *queries_of(chosen, ids.device))


class CachedFeatures:
    """Reads shards written by `cache_features`.

    Args:
        folder: Folder with the shards and index.json.
        conversations: Texts of which the features were computed.
        device: Device of the batches.
    """

    def __init__(self, folder: Path, conversations: Sequence[Conversation], device: torch.device) -> None:
        self._conversations = conversations
        self._device = device
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self._places = {
            int(number): (folder / shard["file"], start)
            for shard in index["shards"]
            for number, start in shard["starts"].items()
        }

    def batch(self, numbers: Sequence[int]) -> TrainBatch:
        """See `FeatureSource`."""
        chosen = [self._conversations[n] for n in numbers]
        ids = pad_ids(chosen)
        columns: dict[str, Tensor] = {}
        for row, number in enumerate(numbers):
            file, start = self._places[number]
            length = len(self._conversations[number].ids)
            # opened for each read: an open mapping would count all pages read so far as memory of this process
            with safe_open(file, framework="pt") as shard:
                for name in ("features", "hidden", "best"):
                    part = shard.get_slice(name)[start : start + length]
                    if name not in columns:
                        columns[name] = part.new_zeros((*ids.shape, *part.shape[1:]))
                    columns[name][row, :length] = part
        device = self._device
        return TrainBatch(
            ids.to(device),
            columns["features"].to(device),
            columns["hidden"].to(device),
            columns["best"].long().to(device),
            *queries_of(chosen, device),
        )


def cache_bytes(target: Target, conversations: Sequence[Conversation]) -> int:
    """Return the disk space of the cached features of these conversations."""
    return sum(len(c.ids) for c in conversations) * bytes_per_token(target)


def bytes_per_token(target: Target) -> int:
    """Return the disk space of one token's features, final state and greedy choice."""
    width = (len(target.aux_layers) + 1) * target.shape.hidden_size
    return width * torch.finfo(target.dtype).bits // 8 + 4


def cache_features(
    target: Target, conversations: Sequence[Conversation], *, folder: Path, batch_tokens: int, metrics: Metrics
) -> CachedFeatures:
    """Compute the features of all conversations once and store them; existing shards are reused.

    Several processes may use one folder at once: shards and index are replaced atomically, and shards finished by other
    processes are not computed again.

    Args:
        target: Target to train for.
        conversations: Texts; their order determines the content of the shards.
        folder: Folder for the shards and index.json.
        batch_tokens: Maximum number of tokens per target pass.
        metrics: Receiver of progress.

    Raises:
        UsageError: The folder contains features of other text, another target or other layers.
        EdgeAIError: The disk is full; finished shards are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_torn_shards(folder)
    origin = fingerprint(target, conversations)
    found = _origin_of(folder)
    if found not in ("", origin, _former_fingerprint(target, conversations)):
        raise UsageError(
            f"{folder} contains features of other text, another target or other layers",
            hint="set data.features_dir to another folder, or leave it empty",
        )
    layout, total = _shard_members(conversations), sum(len(c.ids) for c in conversations)
    starts = [np.cumsum([0, *(len(conversations[m].ids) for m in members)]).tolist() for members in layout]
    shards = [
        {"file": f"{number:05d}.safetensors", "starts": {str(m): s for m, s in zip(members, begins, strict=False)}}
        for number, (members, begins) in enumerate(zip(layout, starts, strict=True))
    ]
    index = json.dumps({"fingerprint": origin, "shards": shards})
    unknown = not found and any(folder.glob("*.safetensors"))  # shards of unknown origin are computed again
    if not unknown:
        write_whole(folder / "index.json", index)
    done = 0
    for number, (members, begins) in enumerate(zip(layout, starts, strict=True)):
        file = folder / f"{number:05d}.safetensors"
        if unknown or not file.exists():
            _save_shard(_shard_tensors(target, [conversations[m] for m in members], batch_tokens), file)
        done += begins[-1]
        metrics.progress("features", done, total, unit="tokens")
    write_whole(folder / "index.json", index)
    return CachedFeatures(folder, conversations, target.device)


def fingerprint(target: Target, conversations: Sequence[Conversation]) -> str:
    """Return a short hash of everything features depend on: target, layers, number format, runtime and text in
    order.
    """
    return _digest(target, target.fingerprint, conversations)


def _former_fingerprint(target: Target, conversations: Sequence[Conversation]) -> str:
    """Return the hash that earlier versions recorded for the same features."""
    return _digest(target, target.former_fingerprint, conversations)


def _digest(target: Target, weights: str, conversations: Sequence[Conversation]) -> str:
    runtime = () if target.runtime == "torch" else (target.runtime,)  # folders of earlier versions are from torch
    parts = (weights, tuple(target.aux_layers), str(target.dtype), *runtime)
    digest = hashlib.sha256(repr(parts).encode())
    for conversation in conversations:
        digest.update(repr((conversation.id, conversation.ids)).encode())
    return digest.hexdigest()[:16]


def _origin_of(folder: Path) -> str:
    """Return the fingerprint in a folder's index; "" if there is none."""
    try:
        return str(json.loads((folder / "index.json").read_text(encoding="utf-8")).get("fingerprint", ""))
    except (FileNotFoundError, ValueError):
        return ""


def _save_shard(tensors: dict[str, Tensor], file: Path) -> None:
    partial = file.with_suffix(f".{os.getpid()}.partial")
    try:
        save_file(tensors, partial)
        partial.replace(file)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise EdgeAIError(
            f"cannot write features to {file.parent}: {error}",
            hint="free some space and continue with --resume, or set data.features=online",
        ) from error


def _remove_torn_shards(folder: Path) -> None:
    """Remove incomplete shards of processes that no longer run."""
    for partial in folder.glob("*.partial"):
        owner = partial.stem.rpartition(".")[2]
        if not (owner.isdigit() and is_alive(int(owner))):
            partial.unlink(missing_ok=True)


def _shard_members(conversations: Sequence[Conversation]) -> list[list[int]]:
    """Split the conversations into shards of about SHARD_TOKENS."""
    shards: list[list[int]] = [[]]
    size = 0
    for number, conversation in enumerate(conversations):
        if shards[-1] and size + len(conversation.ids) > SHARD_TOKENS:
            shards.append([])
            size = 0
        shards[-1].append(number)
        size += len(conversation.ids)
    return shards


def _shard_tensors(target: Target, conversations: Sequence[Conversation], batch_tokens: int) -> dict[str, Tensor]:
    """Compute the concatenated features of a shard's conversations, in batches of similar length."""
    parts: list[tuple[Tensor, Tensor, Tensor] | None] = [None] * len(conversations)
    order = sorted(range(len(conversations)), key=lambda n: len(conversations[n].ids))
    for members in pack_in_order(conversations, order, batch_tokens):
        ids = pad_ids([conversations[m] for m in members]).to(target.device)
        outputs = target.features_and_choices(ids)
        for row, member in enumerate(members):
            length = len(conversations[member].ids)
            features, hidden, best = (out[row, :length].cpu() for out in outputs)
            parts[member] = (features.clone(), hidden.clone(), best.to(torch.int32))
    columns = zip(*(part for part in parts if part is not None), strict=True)
    return {name: torch.cat(column) for name, column in zip(("features", "hidden", "best"), columns, strict=True)}
