"""Costs of drafting and verification on this machine: measured once, then interpolated.

Source: cost model of speculative decoding, cycle = T_verify(nodes + 1) + T_draft(depth, width) + T_commit; tokens per
second = accept_len / cycle.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, TypeVar

import torch

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.decoding.verify import accept
from edgeai.spec.draft.drafter import Drafter
from edgeai.spec.draft.tree import build_tree
from edgeai.spec.target.protocol import Target
from edgeai.spec.target.sampling import Sampler

VERIFY_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
WIDTHS = (1, 2, 4, 8)
_CONTEXT = 256  # tokens before the timed pass: the middle of a chat
_DEEP = 4  # levels of the deeper of the two timed drafts
_ROW, _ROW_S = 8, 0.03  # calls in a row, unless they take longer than this
K = TypeVar("K")


@dataclass(frozen=True)
class Costs:
    """Times in seconds on one machine for one target and drafter."""

    verify_s: Mapping[int, float]
    """Verification of n tokens, including the root."""
    draft_first_s: Mapping[int, float]
    """Drafting the first level by width, including the newly accepted tokens and re-ranking."""
    draft_level_s: Mapping[int, float]
    """Each further level by width."""
    commit_s: float
    """Acceptance of a path and KV-cache compaction."""

    @property
    def plain_s(self) -> float:
        """Time of one token of plain decoding."""
        return self.verify_s[1] + self.commit_s

    def cycle_s(self, tree: TreeConfig) -> float:
        """Return the time of one speculative cycle with a full tree."""
        width = min(self.draft_first_s, key=lambda known: (known < tree.top_k, abs(known - tree.top_k)))
        draft_s = self.draft_first_s[width] + (tree.depth - 1) * self.draft_level_s[width]
        return interpolate(self.verify_s, tree.nodes + 1) + draft_s + self.commit_s

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `from_json`."""
        return {
            "verify_s": {str(size): seconds for size, seconds in self.verify_s.items()},
            "draft_first_s": {str(width): seconds for width, seconds in self.draft_first_s.items()},
            "draft_level_s": {str(width): seconds for width, seconds in self.draft_level_s.items()},
            "commit_s": self.commit_s,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Costs:
        """Restore the costs from the data of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: The document does not describe costs.
        """
        curves = {
            name: {int(size): float(seconds) for size, seconds in document[name].items()}
            for name in ("verify_s", "draft_first_s", "draft_level_s")
        }
        return cls(**curves, commit_s=float(document["commit_s"]))


def interpolate(curve: Mapping[int, float], size: int) -> float:
    """Interpolate a measured curve linearly; beyond the last point, extrapolate with the last slope."""
    if size in curve:
        return curve[size]
    sizes = sorted(curve)
    right = min(max(bisect_left(sizes, size), 1), len(sizes) - 1)
    low, high = sizes[right - 1], sizes[right]
    return curve[low] + (curve[high] - curve[low]) * (size - low) / (high - low)


def measure_costs(target: Target, drafter: Drafter, *, repeats: int = 4) -> Costs:
    """Measure the parts of a cycle: the fastest of several interleaved rounds, so that other load affects all
    equally.
    """
    target = target.with_aux_layers(drafter.aux_layers)
    draft_s = _time_drafts(target, drafter, repeats)
    # a wider draft is never cheaper, except by measurement noise
    first_s = list(accumulate((draft_s[1, width] for width in WIDTHS), max))
    levels_s = accumulate((draft_s[_DEEP, width] - draft_s[1, width] for width in WIDTHS), max, initial=0.0)
    return Costs(
        verify_s=measure_verify(target, repeats=repeats),
        draft_first_s=dict(zip(WIDTHS, first_s, strict=True)),
        draft_level_s={width: level / (_DEEP - 1) for width, level in zip(WIDTHS, list(levels_s)[1:], strict=True)},
        commit_s=_time_commit(target, repeats),
    )


@torch.inference_mode()
def measure_verify(
    target: Target, sizes: Sequence[int] = VERIFY_SIZES, *, context: int = _CONTEXT, repeats: int = 4
) -> dict[int, float]:
    """Measure T(n): the time of one target pass over n tokens after a context, in seconds.

    Args:
        target: Target to measure.
        sizes: Values of n.
        context: Tokens before them, reduced to what the model allows.
        repeats: Number of interleaved rounds, of which the fastest counts.
    """
    context = min(context, target.shape.max_positions - max(sizes))
    cache = target.new_cache(context + max(sizes))
    cache.lengths[0] = context  # zeros cost the same as real keys
    calls = {}
    for size in sizes:
        tree = build_tree(range(size), range(-1, size - 1), [0.0] * size)
        tokens, depths, ancestors = (part.to(target.device) for part in (tree.tokens, tree.depths, tree.ancestors))
        calls[size] = partial(target.verify, tokens, depths, ancestors, cache)
    return fastest_s(target, calls, repeats)


def _time_drafts(target: Target, drafter: Drafter, repeats: int) -> dict[tuple[int, int], float]:
    """Measure the time to propose trees of each (depth, width) after one accepted token."""
    width = target.shape.hidden_size * len(target.aux_layers)
    context = min(_CONTEXT, target.shape.max_positions // 2)
    features = torch.randn(context, width, device=target.device, dtype=target.dtype)
    ids = [index % target.shape.vocab_size for index in range(context)]

    def draft(depth: int, top_k: int) -> None:
        drafter.propose(1, TreeConfig(nodes=8, depth=depth, top_k=top_k))
        drafter.accept([1], features[:1])

    calls = {(d, k): partial(draft, d, k) for d in (1, _DEEP) for k in WIDTHS}
    return fastest_s(target, calls, repeats, prepare=partial(drafter.start, ids, features))


@torch.inference_mode()
def _time_commit(target: Target, repeats: int) -> float:
    """Measure the time to accept and commit one draft token that is not next to the root."""
    tree = build_tree([0, 1, 2], [-1, 0, 0], [0.0, -1.0, -2.0])
    logits = torch.zeros(3, target.shape.vocab_size, device=target.device)
    logits[0, 2] = 1.0
    cache = target.new_cache(_CONTEXT)

    def commit() -> None:
        accepted = accept(tree, logits, Sampler(SamplingConfig()))
        target.commit(cache, torch.tensor(accepted.path, device=target.device))
        cache.lengths[0] = 0

    return fastest_s(target, {0: commit}, repeats)[0]


def fastest_s(
    target: Target, calls: Mapping[K, Callable[[], object]], repeats: int, prepare: Callable[[], object] | None = None
) -> dict[K, float]:
    """Return the shortest time of each call over interleaved rounds, after one warm-up round.

    In a round each call runs several times in a row, as it does while a text is written: after a long pass over many
    tokens, the first short ones find the weights no longer in the processor's cache and take up to twice as long.

    Args:
        target: Target whose device computes.
        calls: What to measure.
        repeats: Number of rounds.
        prepare: Called before each row of calls, untimed.
    """
    best_s = dict.fromkeys(calls, float("inf"))
    for round_index in range(repeats + 1):
        for key, call in calls.items():
            if prepare:
                prepare()
            row_s: list[float] = []
            while not row_s or (round_index and sum(row_s) < _ROW_S and len(row_s) < _ROW):
                _wait(target)
                begin_s = time.perf_counter()
                call()
                _wait(target)
                row_s.append(time.perf_counter() - begin_s)
            if round_index:
                best_s[key] = min(best_s[key], *row_s)
    return best_s


def _wait(target: Target) -> None:
    if target.device.type == "cuda":
        torch.cuda.synchronize(target.device)
