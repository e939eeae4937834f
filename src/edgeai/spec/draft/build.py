"""The factory of drafters."""

from __future__ import annotations

import hashlib

import torch

from edgeai.core.errors import UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.draft import Draft, NgramDraft, NoDraft
from edgeai.spec.draft.checkpoint import load_head
from edgeai.spec.draft.drafter import Drafter
from edgeai.spec.draft.eagle3 import Eagle3
from edgeai.spec.draft.head import DraftHead
from edgeai.spec.draft.head_files import shipped_head
from edgeai.spec.draft.native_eagle3 import NativeEagle3
from edgeai.spec.draft.native_head import NativeHead, unsupported
from edgeai.spec.draft.ngram import Ngram
from edgeai.spec.target.native.target import NativeTarget
from edgeai.spec.target.protocol import Target


def build_drafter(config: Draft, target: Target, metrics: Metrics) -> Drafter | None:
    """Build the drafter of a config; None for plain decoding.

    Args:
        config: Kind of drafter and its settings.
        target: Target to draft for. It is not changed: callers pass the target's features of `Drafter.aux_layers`.
        metrics: Receiver of a note if the head of a native target runs in torch.

    Raises:
        UsageError: There is no head at the path, or it was trained for another target.
        EdgeAIError: The head's shape does not match the target.
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
    name = f"eagle3-{head_hash(head)}"
    if isinstance(target, NativeTarget):
        reason = unsupported(head.shape)
        if reason is None:
            return NativeEagle3(NativeHead(head, target), name=f"{name}-native")
        metrics.note(f"the draft head runs in torch: {reason}")
    return Eagle3(head, target, name=name)


def head_hash(head: DraftHead) -> str:
    """Return a short hash of a head's stored weights and its shape.

    The shape is included because equal weights with other feature layers or another RoPE base draft differently.
    """
    digest = hashlib.sha256(repr(head.shape).encode())
    for _, tensor in sorted(head.state_dict().items()):
        stored = tensor.to(torch.bfloat16).view(torch.int16) if tensor.is_floating_point() else tensor
        digest.update(stored.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
