"""Whether an export drafts what the head itself drafts: the logits of the first draft steps, behind a real prompt.

Shapes: T tokens, n layers of the target, H hidden, V target vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgeai.spec.decoding.generate import chat_ids
from edgeai.spec.draft.head import DraftHead
from edgeai.spec.draft.rope import Rope
from edgeai.spec.formats.referee import NUM_STEPS, Referee
from edgeai.spec.formats.reports import Agreement
from edgeai.spec.target.torch_runtime import DecoderTarget
from edgeai.spec.training.unroll import Unroll

PROMPT = "Why is the sky blue?"
# float32 sums in another order differ by some 1e-6 of the largest logit; a wrong layer, norm or base by 1e-2 and more
TOLERANCE_FRAC = 1e-4


def compare(referee: Referee, head: DraftHead, target: DecoderTarget, rope: Rope) -> Agreement:
    """Run both behind the same text of the target.

    Args:
        referee: Has read the export.
        head: The head itself.
        target: Reads the text; what enters each of its layers is what a server would hand to the head.
        rope: What the head turns with.
    """
    problems = tuple(referee.problems())
    if problems:
        return Agreement(problems, math.inf, 0.0, NUM_STEPS)
    ids = torch.tensor(chat_ids(target.tokenizer, PROMPT))
    states, embedding, drafted = states_entering(target, ids), target.embedding.cpu(), int(ids[0])
    ours = head_logits(head, rope, ids, states, embedding, drafted)
    theirs = referee.logits(ids, states[:, :-1], embedding, drafted)
    can_be_drafted = ours.isfinite()
    scale = max(1.0, float(ours[can_be_drafted].abs().max()))
    if ours.isnan().any() or not torch.equal(can_be_drafted, theirs.isfinite()):
        return Agreement((), math.inf, TOLERANCE_FRAC * scale, NUM_STEPS)
    difference = (ours - theirs)[can_be_drafted].abs().max()
    return Agreement((), float(difference), TOLERANCE_FRAC * scale, NUM_STEPS)


def states_entering(target: DecoderTarget, ids: Tensor) -> Tensor:
    """What enters each layer of the target at each token of a text [n, T, H]."""
    num_layers = target.shape.num_layers
    features, _ = target.with_aux_layers(tuple(range(num_layers))).features(ids[None].to(target.device))
    return features[0].cpu().unflatten(-1, (num_layers, -1)).movedim(1, 0)


@torch.inference_mode()
def head_logits(head: DraftHead, rope: Rope, ids: Tensor, states: Tensor, embedding: Tensor, drafted: int) -> Tensor:
    """The head's own logits of the steps that `Referee.logits` runs, with the arithmetic of training [2, V].

    The tables are computed anew in float32: those of a target in bfloat16 are rounded, which is not the export's doing.
    """
    head = head.cpu().float()
    cos, sin = rope.tables(head.shape.head_dim, len(ids) + NUM_STEPS, torch.float32)
    unroll = Unroll(head, embedding=embedding.float(), cos=cos, sin=sin, dtype=torch.float32)
    features = torch.cat([states[layer] for layer in head.shape.aux_layers], -1).float()
    later = torch.full((1, 1, NUM_STEPS - 1), drafted)
    outputs = unroll(ids[None], features[None], torch.tensor([[len(ids) - 2]]), later)
    over = torch.full((NUM_STEPS, head.shape.vocab_size), -torch.inf)
    over[:, head.draft_to_target] = head.lm_head(torch.stack([output[0, 0] for output in outputs]))
    return over
