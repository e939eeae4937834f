"""Which tree the next cycle drafts: `tree: auto`'s choice, revisited for every batch and from running acceptance.

A cycle of B requests verifies B (nodes + 1) tokens in one pass, so drafts that are nearly free for one request are
paid in full by many: the best tree shrinks as the batch grows, down to none. Where the drafts are accepted less often
than calibration saw, the prediction shrinks as well; while decoding plainly, a few cycles in every `PROBE_EVERY` draft
nevertheless, so that better times are noticed.

Source: the cost model of `tune.py`, per batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.decoding.costs import Costs, interpolate
from edgeai.spec.decoding.tree_tuning import MIN_SPEEDUP

PROBE_EVERY = 256
"""Plain cycles between two probes."""
PROBE_CYCLES = 4
"""Cycles of a probe."""
_MEMORY = 1 / 128
"""Weight of a request's newest cycle in the running acceptance."""


@dataclass(frozen=True)
class Decision:
    """The tree of a cycle, and why."""

    tree: TreeConfig | None
    """None: decode plainly."""
    reason: str
    """One of `REASONS`."""
    speedup: float
    """Predicted tokens per second of the best tree, relative to plain decoding of the same batch."""
    accept_len: float
    """Predicted for that tree."""


REASONS = {
    "fixed": "the tree is given",
    "none": "no drafter, or no request that speculates",
    "pays": "the tree with the best predicted speed",
    "loses": "no tree is predicted to be faster than plain decoding",
    "probe": "plain decoding is predicted to be faster; seeing whether acceptance has changed",
}


class Policy(Protocol):
    """Chooses trees."""

    def choose(self, num_speculating: int, num_others: int) -> Decision:
        """The tree for a cycle.

        Args:
            num_speculating: Requests that would draft.
            num_others: Requests that decode plainly whatever is chosen.
        """

    def observe(self, tree: TreeConfig, num_accepted: int) -> None:
        """One request's full tree of this shape had so many draft tokens accepted."""

    @property
    def largest(self) -> TreeConfig | None:
        """A tree that no chosen one exceeds in any number; None if none is ever chosen."""


class FixedTree:
    """Always the same tree; None decodes plainly."""

    def __init__(self, tree: TreeConfig | None) -> None:
        self.largest = tree

    def choose(self, num_speculating: int, num_others: int) -> Decision:
        """See `Policy`."""
        tree = self.largest if num_speculating else None
        return Decision(tree, "fixed" if tree else "none", 1.0, 1.0)

    def observe(self, tree: TreeConfig, num_accepted: int) -> None:
        """See `Policy`."""


@dataclass(frozen=True)
class BatchCosts:
    """Seconds of a cycle's parts, measured for several requests at once."""

    one: Costs
    """Of a single request."""
    verify_s: Mapping[int, float]
    """A pass over n tokens of one request; to more tokens than `one` knows."""
    segment_s: float
    """More for each further request in the pass."""
    draft_share: float
    """Drafting for one more request, relative to drafting for one alone."""

    def cycle_s(self, tree: TreeConfig | None, num_speculating: int, num_others: int) -> float:
        """One cycle of all requests."""
        num_requests = num_speculating + num_others
        rest_s = self.one.commit_s * num_requests + self.segment_s * (num_requests - 1)
        if tree is None:
            return interpolate(self.verify_s, num_requests) + rest_s
        tokens = num_requests + num_speculating * tree.nodes
        alone_s = self.one.cycle_s(tree) - interpolate(self.one.verify_s, tree.nodes + 1) - self.one.commit_s
        draft_s = alone_s * (1 + self.draft_share * (num_speculating - 1))
        return interpolate(self.verify_s, tokens) + draft_s + rest_s


class Adaptive:
    """The tree with the best predicted speed for each batch.

    Args:
        costs: Timings of this machine.
        accept_lens: Tokens per cycle that calibration found for each tree.
    """

    def __init__(self, costs: BatchCosts, accept_lens: Mapping[TreeConfig, float]) -> None:
        self._costs = costs
        self._accept_lens = accept_lens
        self._accepted = self._expected = 0.0
        self._num_plain = 0
        self._cached: dict[tuple[int, int], Decision] = {}
        self._cached_scale = 1.0
        self.largest = TreeConfig(
            nodes=max(tree.nodes for tree in accept_lens),
            depth=max(tree.depth for tree in accept_lens),
            top_k=max(tree.top_k for tree in accept_lens),
        )

    @property
    def scale(self) -> float:
        """Accepted draft tokens of late, relative to what calibration predicts for the same trees.

        Sixteen imagined cycles that went as predicted keep the first few real ones from deciding alone.
        """
        return (self._accepted + 16.0) / (self._expected + 16.0)

    def choose(self, num_speculating: int, num_others: int) -> Decision:
        """See `Policy`."""
        if not num_speculating:
            return Decision(None, "none", 1.0, 1.0)
        decision = self._best(num_speculating, num_others)
        if decision.speedup >= MIN_SPEEDUP:
            self._num_plain = 0
            return decision
        self._num_plain += 1
        if self._num_plain % PROBE_EVERY < PROBE_CYCLES and self._num_plain >= PROBE_EVERY:
            return Decision(decision.tree, "probe", decision.speedup, decision.accept_len)
        return Decision(None, "loses", decision.speedup, decision.accept_len)

    def observe(self, tree: TreeConfig, num_accepted: int) -> None:
        """See `Policy`."""
        self._accepted += num_accepted - _MEMORY * self._accepted
        self._expected += self._accept_lens.get(tree, 1.0) - 1.0 - _MEMORY * self._expected

    def _best(self, num_speculating: int, num_others: int) -> Decision:
        """The best tree; searched anew when acceptance has moved by a twentieth."""
        if abs(self.scale - self._cached_scale) > 0.05 * self._cached_scale:
            self._cached, self._cached_scale = {}, self.scale
        batch = num_speculating, num_others
        if batch not in self._cached:
            self._cached[batch] = self._search(*batch)
        return self._cached[batch]

    def _search(self, num_speculating: int, num_others: int) -> Decision:
        scale = self._cached_scale
        plain_rate = (num_speculating + num_others) / self._costs.cycle_s(None, num_speculating, num_others)

        def gain(tree: TreeConfig) -> float:
            tokens = num_others + num_speculating * (1.0 + scale * (self._accept_lens[tree] - 1.0))
            return tokens / self._costs.cycle_s(tree, num_speculating, num_others) / plain_rate

        best = max(self._accept_lens, key=gain)
        return Decision(best, "pays", gain(best), 1.0 + scale * (self._accept_lens[best] - 1.0))
