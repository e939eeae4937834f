"""Validation of a draft head: token losses, and the accept_len of draft trees."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.train import TrainConfig
from edgeai.spec.data.conversation import Conversation
from edgeai.spec.data.features import FeatureSource
from edgeai.spec.data.train_batch import pack_in_order
from edgeai.spec.decoding.generation import accept_len
from edgeai.spec.draft.eagle3 import HeadLayer
from edgeai.spec.draft.head import DraftHead
from edgeai.spec.evaluation.acceptance_replay import passages, replay
from edgeai.spec.target.protocol import Target
from edgeai.spec.training.distributed import ALONE
from edgeai.spec.training.losses import TrainingTimeTest, step_means
from edgeai.spec.training.prepare import Prepared

_NUM_REPLAYED = 64  # conversations: some thousand cycles


@torch.no_grad()
def validate(cfg: TrainConfig, ready: Prepared, token_loss: TrainingTimeTest) -> dict[str, float]:
    """Return losses and accuracies per draft step on the validation texts, and the accept_len of trees (by replay)."""
    order = sorted(range(len(ready.val)), key=lambda n: len(ready.val[n].ids))
    batches = pack_in_order(ready.val, order, cfg.optim.batch_tokens)
    ones = torch.ones(cfg.loss.ttt_steps, device=ready.target.device)
    sums = [token_loss(ready.val_features.batch(b), cfg.loss.ttt_steps, ones)[1] for b in batches]
    values = step_means(sums, ALONE)
    values["tree_accept_len"] = tree_accept_len(
        ready.head,
        ready.target,
        ready.val[:_NUM_REPLAYED],
        ready.val_features,
        tree=cfg.val_tree,
        max_tokens=cfg.data.max_answer_tokens,
    )
    return values


@torch.no_grad()
def tree_accept_len(
    head: DraftHead,
    target: Target,
    conversations: Sequence[Conversation],
    features: FeatureSource,
    *,
    tree: TreeConfig,
    max_tokens: int,
) -> float:
    """Return the accept_len that decoding these conversations with a head would have.

    Args:
        head: Draft head.
        target: Target that wrote the answers.
        conversations: Texts with answers.
        features: Target features of the texts, by their index.
        tree: Largest tree per cycle.
        max_tokens: Maximum number of tokens per answer.
    """
    texts = [
        passage
        for number, conversation in enumerate(conversations)
        for passage in passages(conversation, features.batch([number]).features[0], max_tokens)
    ]
    layer = HeadLayer(head, target)
    return accept_len(chain.from_iterable(replay(layer, target, texts, tree)))
