"""Checks that a draft head matches its target and its own config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.spec.draft.head import DraftHead, HeadShape
from edgeai.spec.draft.head_files import HeadFiles
from edgeai.spec.target.protocol import Target

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_INTEGERS = (torch.int64, torch.int32, torch.bool, torch.uint8)


def check_fit(head: DraftHead, target: Target) -> None:
    """Check that a head has the shape of this target.

    Raises:
        EdgeAIError: A size differs; names it with both values.
    """
    ours, theirs = head.shape, target.shape
    for what, have, want in (
        ("hidden size", ours.target_hidden_size, theirs.hidden_size),
        ("embedding width", ours.hidden_size, theirs.hidden_size),
        ("head width", ours.head_dim, ours.head_dim if ours.rope else theirs.head_dim),
        ("vocabulary", ours.vocab_size, theirs.vocab_size),
    ):
        if have != want:
            raise EdgeAIError(
                f"the draft head does not fit {target.name}: its {what} is {have}, the target's {want}",
                hint="use a head trained for this target, or train one with `edgeai spec train`",
            )


def check_target(files: HeadFiles, shape: HeadShape, target: Target) -> None:
    """Check that a head was trained for this target: other heads would draft tokens that are never accepted.

    Raises:
        UsageError: A property differs; names both values.
    """
    folder, fingerprint = files.folder, files.note.get("fingerprint")
    hint = "give the target that the head was trained for, or train a head for this one"
    name = files.target_name or "a model"
    if shape.vocab_size != target.shape.vocab_size:
        raise UsageError(
            f"{folder} drafts for {name} with {shape.vocab_size} tokens, but {target.name} has "
            f"{target.shape.vocab_size}",
            hint=hint,
        )
    if shape.target_hidden_size != target.shape.hidden_size:
        raise UsageError(
            f"{folder} drafts for {name} of width {shape.target_hidden_size}, but {target.name} has width "
            f"{target.shape.hidden_size}",
            hint=hint,
        )
    if shape.hidden_size != target.shape.hidden_size:
        raise UsageError(
            f"{folder} is a head of width {shape.hidden_size}, but the embedding it borrows from {target.name} has "
            f"width {target.shape.hidden_size}",
            hint=hint,
        )
    if max(shape.aux_layers) >= target.shape.num_layers:
        raise UsageError(
            f"{folder} drafts for {name} from layer {max(shape.aux_layers)}, but {target.name} has "
            f"{target.shape.num_layers} layers",
            hint=hint,
        )
    if fingerprint and fingerprint not in (target.fingerprint, target.former_fingerprint):
        raise UsageError(
            f"{folder} was trained for {name} (weights {fingerprint}), not for {target.name} "
            f"(weights {target.fingerprint})",
            hint=hint,
        )


def check_tensors(folder: Path, tensors: Mapping[str, Tensor], shape: HeadShape) -> None:
    """Check names, shapes and number formats of the tensors against the config, and the draft vocabulary.

    Raises:
        UsageError: Names the first three problems.
    """
    # the offsets are real: indexing on the meta device imports torch's compiler, which takes a second
    offsets = torch.zeros(shape.draft_vocab_size, dtype=torch.long)
    with torch.device("meta"):
        expected = DraftHead(shape, offsets).state_dict()
    problems = [f"no {name}" for name in expected if name not in tensors and name not in ("d2t", "t2d")]
    problems += [f"unknown {name}" for name in tensors if name not in expected]
    problems += [
        f"{name} is {list(tensor.shape)}, not {list(expected[name].shape)}"
        for name, tensor in tensors.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    problems += [
        f"{name} is of {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in tensors.items()
        if name in expected and tensor.dtype not in (_INTEGERS if name in ("d2t", "t2d") else _FLOATS)
    ]
    if not problems and "d2t" in tensors:
        kept = tensors["d2t"] + torch.arange(shape.draft_vocab_size)
        if int(kept.min()) < 0 or int(kept.max()) >= shape.vocab_size:
            problems.append(f"d2t leaves the {shape.vocab_size} tokens of the target")
    if problems:
        raise UsageError(
            f"{folder}: tensors do not match the head's config: {', '.join(sorted(problems)[:3])}",
            hint="take another checkpoint",
        )
