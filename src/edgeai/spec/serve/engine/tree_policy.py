"""Choice of the draft tree of each cycle, by batch size and recent acceptance (`tree: auto`).

A cycle of B requests verifies B (nodes + 1) tokens in one pass. Draft tokens that are nearly free for one request
therefore cost their full price in a large batch: the best tree shrinks as the batch grows, down to none. If fewer
draft tokens are accepted than calibration predicts, the predicted speed drops as well. While decoding plainly, a few
cycles in every `PROBE_EVERY` draft nevertheless, so that a higher acceptance is noticed.

The cost model is that of `decoding/costs.py`, per batch.
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
"""Cycles per probe."""
_MEMORY = 1 / 128
"""Weight of the newest cycle of a request in the running acceptance."""


@dataclass(frozen=True)
class Decision:
    """Tree of a cycle and the reason for it."""

    tree: TreeConfig | None
    """None decodes plainly."""
    reason: str
    """One of `REASONS`."""
    speedup: float
    """Predicted tokens per second with the best tree, relative to plain decoding of the same batch."""
    accept_len: float
    """Predicted accept_len of the best tree."""


REASONS = {
    "fixed": "the tree is set in the config",
    "none": "no drafter, or no request that speculates",
    "pays": "the tree with the best predicted speed",
    "loses": "no tree is predicted to be faster than plain decoding",
    "probe": "plain decoding is predicted to be faster; a probe measures the acceptance again",
}


class Policy(Protocol):
    """Chooses the tree of each cycle."""

    def choose(self, num_speculating: int, num_others: int) -> Decision:
        """Choose the tree of a cycle.

        Args:
            num_speculating: Decoding requests with speculation enabled.
            num_others: Decoding requests with speculation disabled.
        """

    def observe(self, tree: TreeConfig, num_accepted: int) -> None:
        """Record the acceptance of one tree.

        Args:
            tree: Shape of the tree; its depth was not limited by max_tokens.
            num_accepted: Number of accepted draft tokens.
        """

    @property
    def largest(self) -> TreeConfig | None:
        """Upper bound of nodes, depth and top-k of all chosen trees; None if no tree is ever chosen."""


class FixedTree:
    """Always chooses the same tree; None decodes plainly."""

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
    """Measured times of the parts of a cycle with several requests."""

    one: Costs
    """Costs of a cycle with one request."""
    verify_s: Mapping[int, float]
    """Time of a pass over n tokens of one request, up to more tokens than `one.verify_s`."""
    segment_s: float
    """Additional time of the pass for each further request."""
    draft_share: float
    """Additional drafting time for each further request, relative to the drafting time of one request."""

    def cycle_s(self, tree: TreeConfig | None, num_speculating: int, num_others: int) -> float:
        """Predict the time of one cycle.

        Args:
            tree: Tree of the speculating requests; None decodes plainly.
            num_speculating: Requests that draft.
            num_others: Requests that decode plainly.
        """
        num_requests = num_speculating + num_others
        rest_s = self.one.commit_s * num_requests + self.segment_s * (num_requests - 1)
        if tree is None:
            return interpolate(self.verify_s, num_requests) + rest_s
        tokens = num_requests + num_speculating * tree.nodes
        alone_s = self.one.cycle_s(tree) - interpolate(self.one.verify_s, tree.nodes + 1) - self.one.commit_s
        draft_s = alone_s * (1 + self.draft_share * (num_speculating - 1))
        return interpolate(self.verify_s, tokens) + draft_s + rest_s


class AdaptiveTree:
    """Chooses the tree with the best predicted speed for each batch.

    Args:
        costs: Measured times on this machine.
        accept_lens: Calibrated tokens per cycle of each tree.
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
        """Ratio of recently accepted draft tokens to the calibrated prediction for the same trees.

        Both sums start with 16 draft tokens, so that the first few cycles do not decide alone.
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
        """Return the best tree of a batch; the cache is cleared when `scale` has changed by more than 5 %."""
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
