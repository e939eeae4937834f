"""Replay: the accept_len that speculative decoding would have on answers the target has already written.

Verification samples the target's token once per level and continues while it is a child in the tree (`verify.py`), so
the text does not depend on the drafts. For an existing text, greedy or sampled, the cycles therefore follow from the
text and the head's trees alone: the first token is the root, the longest path of the tree that matches the text is
accepted, and the token after it is the next root. One set of texts serves any number of heads, which are compared on
the same tokens; the target is needed once, for the features.

All texts advance together, one cycle each at a time, so that the head drafts only at the starts of cycles but at many
positions at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.data.conversation import Conversation
from edgeai.spec.draft.drafter import limit_depth
from edgeai.spec.draft.eagle3 import HeadLayer
from edgeai.spec.draft.eagle3_batched import TextKeys, propose_at
from edgeai.spec.draft.tree import DraftTree
from edgeai.spec.target.protocol import Target


@dataclass(frozen=True)
class Passage:
    """An answer and the text before it."""

    ids: Sequence[int]
    """Tokens of the text [T], at least up to the end of the answer."""
    features: Tensor
    """Target features [T, F]; those of the answer's last token are not needed."""
    begin: int
    """Position of the answer's first token, at least 1."""
    end: int
    """Position after the answer's last token."""
    max_tokens: int
    """Maximum number of answer tokens in decoding, which limits the depth of the last drafts."""

    def remaining(self, root: int, max_positions: int) -> int:
        """Return the number of tokens that decoding could still emit after the token at `root`."""
        budget = min(self.max_tokens, max_positions - self.begin)
        return budget - (root - self.begin + 1)


def passages(conversation: Conversation, features: Tensor, max_tokens: int) -> list[Passage]:
    """Return the answers of a conversation.

    Args:
        conversation: Text with answers of the target.
        features: Target features of the text [T, F].
        max_tokens: Limit with which the answers were written; longer answers use their own length.
    """
    return [
        Passage(conversation.ids, features, max(begin, 1), end, max(max_tokens, end - max(begin, 1)))
        for begin, end in conversation.answers
        if end > max(begin, 1)
    ]


def replay(layer: HeadLayer, target: Target, texts: Sequence[Passage], tree: TreeConfig) -> list[tuple[int, ...]]:
    """Return the tokens emitted by each cycle of decoding these answers, as in `Generation.accept_counts`.

    Args:
        layer: Head that matches the target.
        target: Target that wrote the answers; only its rotary tables and number of positions are used.
        texts: Answers of the target.
        tree: Largest tree per cycle.
    """
    keys = [TextKeys(layer, target, text.ids, text.features, text.end - 1) for text in texts]
    roots = [text.begin for text in texts]
    counts: list[list[int]] = [[] for _ in texts]
    while under_way := [n for n, text in enumerate(texts) if roots[n] < text.end - 1]:
        by_tree: dict[TreeConfig | None, list[int]] = {}
        for n in under_way:
            remaining = texts[n].remaining(roots[n], target.shape.max_positions)
            by_tree.setdefault(limit_depth(tree, remaining), []).append(n)
        for limited, members in by_tree.items():
            drafts: Sequence[DraftTree | None] = [None] * len(members)
            if limited:
                drafts = propose_at([(keys[n], roots[n]) for n in members], limited)
            for n, draft in zip(members, drafts, strict=True):
                counts[n].append(_num_emitted(texts[n], roots[n], draft))
                roots[n] += counts[n][-1]
    return [tuple(each) for each in counts]


def _num_emitted(text: Passage, root: int, draft: DraftTree | None) -> int:
    """Return the tokens of one cycle: the accepted path and the bonus token, unless the text ends before it."""
    following = text.ids[root + 1 : text.end]
    num_accepted = draft.num_accepted(following) if draft else 0
    return min(num_accepted + 1, len(following))
