"""Measurement of batch costs for `tree: auto`: passes and drafts of several requests."""

from __future__ import annotations

from functools import partial

import torch

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.decoding.costs import Costs, fastest_s, measure_verify
from edgeai.spec.draft.tree import root_only
from edgeai.spec.serve.engine.draft_pool import DraftPool
from edgeai.spec.serve.engine.tree_policy import BatchCosts
from edgeai.spec.target.protocol import Segment, Target

_LONG_PASSES = (64, 96, 128, 192)  # tokens; only batches need passes this long
_NUM_REQUESTS = 4
_CONTEXT = 128  # tokens before the timed passes
_REPEATS = 5
_TREE = TreeConfig(nodes=4, depth=2, top_k=2)


def measure_batch_costs(target: Target, drafts: DraftPool, one: Costs) -> BatchCosts:
    """Measure what further requests add to the costs of a cycle.

    Args:
        target: The model.
        drafts: Draft pool; its first rows are used and then cleared.
        one: Costs of a cycle with one request.
    """
    verify_s = {**one.verify_s}
    longer = measure_verify(target, _LONG_PASSES, repeats=2)
    # scaled to the earlier measurement: a different load of the machine now must not bend the curve
    scale = verify_s[_LONG_PASSES[0]] / longer[_LONG_PASSES[0]]
    verify_s |= {size: seconds * scale for size, seconds in longer.items() if size > _LONG_PASSES[0]}
    if drafts.num_rows < 2:
        return BatchCosts(one, verify_s, segment_s=0.0, draft_share=1.0)
    return BatchCosts(one, verify_s, _segment_s(target), _draft_share(target, drafts))


@torch.inference_mode()
def _segment_s(target: Target) -> float:
    """Return the time that a further request adds to a pass over the same number of tokens."""
    num = _NUM_REQUESTS
    cache = target.new_cache(_CONTEXT + num, num)
    cache.lengths[:] = [_CONTEXT] * num
    segments = [Segment.of_tree(row, root_only(0)) for row in range(num)]
    calls = {"split": lambda: target.run_segments(segments, cache)}
    split_s = fastest_s(target, calls, _REPEATS)["split"]
    whole_s = measure_verify(target, (1, num), context=_CONTEXT, repeats=_REPEATS)[num]
    return max(split_s - whole_s, 0.0) / (num - 1)


@torch.inference_mode()
def _draft_share(target: Target, drafts: DraftPool) -> float:
    """Return the drafting time that a further request adds, relative to the drafting time of one."""
    num_rows = min(_NUM_REQUESTS, drafts.num_rows)
    text = [index % target.shape.vocab_size for index in range(_CONTEXT)]
    features = torch.zeros(1, target.shape.hidden_size * len(target.aux_layers)).to(target.device, target.dtype)

    def draft(count: int) -> None:
        for row in range(count):
            drafts.begin(row, _CONTEXT - 2 if drafts.reads_features else 0)
            drafts.feed(row, text, features)
        drafts.propose(range(count), [text] * count, _TREE)

    times_s = fastest_s(target, {count: partial(draft, count) for count in (1, num_rows)}, _REPEATS)
    for row in range(num_rows):
        drafts.begin(row, 0)
    return min(max(times_s[num_rows] / times_s[1] - 1, 0.0) / (num_rows - 1), 1.0)
