"""Check of an export: its draft logits after a prompt against those of the head itself.

Shapes: T tokens, n layers of the target, H hidden, V target vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgeai.spec.decoding.generate import chat_ids
from edgeai.spec.draft.head import DraftHead
from edgeai.spec.draft.rope import Rope
from edgeai.spec.formats.independent_reader import NUM_STEPS, IndependentReader
from edgeai.spec.formats.reports import Agreement
from edgeai.spec.target.protocol import Target
from edgeai.spec.training.unroll import Unroll

PROMPT = "Why is the sky blue?"
# float32 sums in another order differ by about 1e-6 of the largest logit; a wrong layer, norm or RoPE base by 1e-2 or
# more
TOLERANCE_FRAC = 1e-4


def check_agreement(reader: IndependentReader, head: DraftHead, target: Target, rope: Rope) -> Agreement:
    """Compare the draft logits of an export and of its head after the same prompt.

    Args:
        reader: Reader of the exported files.
        head: The exported head.
        target: Target whose layer inputs both take as features.
        rope: The head's rotary embedding.
    """
    problems = tuple(reader.problems())
    if problems:
        return Agreement(problems, math.inf, 0.0, NUM_STEPS)
    ids = torch.tensor(chat_ids(target.tokenizer, PROMPT))
    states, embedding, drafted = states_entering(target, ids), target.embedding.cpu(), int(ids[0])
    ours = head_logits(head, rope, ids, states, embedding, drafted)
    theirs = reader.logits(ids, states[:, :-1], embedding, drafted)
    can_be_drafted = ours.isfinite()
    scale = max(1.0, float(ours[can_be_drafted].abs().max()))
    if ours.isnan().any() or not torch.equal(can_be_drafted, theirs.isfinite()):
        return Agreement((), math.inf, TOLERANCE_FRAC * scale, NUM_STEPS)
    difference = (ours - theirs)[can_be_drafted].abs().max()
    return Agreement((), float(difference), TOLERANCE_FRAC * scale, NUM_STEPS)


def states_entering(target: Target, ids: Tensor) -> Tensor:
    """Return the input of each layer of the target at each token of a text [n, T, H]."""
    num_layers = target.shape.num_layers
    features, _ = target.with_aux_layers(tuple(range(num_layers))).features(ids[None].to(target.device))
    return features[0].cpu().unflatten(-1, (num_layers, -1)).movedim(1, 0)


@torch.inference_mode()
def head_logits(head: DraftHead, rope: Rope, ids: Tensor, states: Tensor, embedding: Tensor, drafted: int) -> Tensor:
    """Return the head's logits of the draft steps in `IndependentReader.logits`, computed as in training [2, V].

    The rotary tables are recomputed in float32, because those of a bfloat16 target are rounded.

    Args:
        head: The head.
        rope: The head's rotary embedding.
        ids: Token ids of the text [T].
        states: Input of each layer of the target [n, T, H].
        embedding: The target's embedding matrix [V, H].
        drafted: Token fed back in the second step.
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
