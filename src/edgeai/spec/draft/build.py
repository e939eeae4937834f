"""Drafters: cheap guesses at what the target will say next."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from edgeai.core.errors import UsageError
from edgeai.spec.config.draft import Draft, NgramDraft, NoDraft, TreeConfig
from edgeai.spec.draft.checkpoint import load_head, shipped_head
from edgeai.spec.draft.eagle3 import Eagle3
from edgeai.spec.draft.head import DraftHead
from edgeai.spec.draft.ngram import Ngram
from edgeai.spec.draft.tree import DraftTree
from edgeai.spec.target.target import Target


class Drafter(Protocol):
    """Proposes continuations of a text that grows by tokens the target has confirmed.

    Shapes: T prompt tokens, A accepted tokens, F target features.
    """

    name: str
    """Tells drafters with different proposals apart, across processes."""
    vocabulary: Tensor | None
    """Token ids that can be drafted [D]; None: all of them."""

    def start(self, ids: Sequence[int], features: Tensor) -> None:
        """Forget everything and begin with a prompt and its target features [T, F]."""

    def propose(self, root: int, tree: TreeConfig) -> DraftTree:
        """Draft what may follow `root`, the target's newest token, which itself is not yet part of the text.

        The caller keeps the root's position plus `tree.depth` within the target's positions.
        """

    def accept(self, tokens: Sequence[int], features: Tensor) -> None:
        """Append confirmed tokens, the root of the last proposal first, with their target features [A, F]."""


def build_drafter(config: Draft, target: Target) -> Drafter | None:
    """The drafter a config asks for; None decodes plainly. An EAGLE-3 head sets which features the target returns.

    Raises:
        UsageError: No head there, or it was trained for another target.
        EdgeAIError: The head's shape does not fit the target.
    """
    if isinstance(config, NoDraft):
        return None
    if isinstance(config, NgramDraft):
        return Ngram(max_ngram=config.max_ngram, min_ngram=config.min_ngram)
    path = config.path or shipped_head(target)
    if path is None:
        raise UsageError(
            f"no draft head is shipped for {target.name}",
            hint="train one with `edgeai spec train` and set draft.path, or use `-s draft.kind=ngram`",
        )
    head, _ = load_head(path, target)
    target.aux_layers = head.shape.aux_layers
    return Eagle3(head, target, name=f"eagle3-{head_hash(head)}")


def head_hash(head: DraftHead) -> str:
    """Short hash of a head: its weights as stored, and its shape, since equal weights with other feature layers or
    another base of the positions draft something else.
    """
    digest = hashlib.sha256(repr(head.shape).encode())
    for _, tensor in sorted(head.state_dict().items()):
        stored = tensor.to(torch.bfloat16).view(torch.int16) if tensor.is_floating_point() else tensor
        digest.update(stored.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
