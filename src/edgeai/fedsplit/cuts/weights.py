"""Weights by name: copy and average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

Weights = dict[str, Tensor]
"""Parameters and buffers by their name in the whole model."""


def clone(weights: Mapping[str, Tensor]) -> Weights:
    """Return a detached copy of weights."""
    return {name: value.detach().clone() for name, value in weights.items()}


def average(states: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> Weights:
    """Return the weighted mean of weights (McMahan et al. 2017, algorithm 1).

    Integer tensors (counters) are taken from the first state. A tensor that is the same object in several states enters
    once, with the sum of their shares, so that weights which all states share do not change by a single bit.

    Args:
        states: Weights to average, with the same names in each.
        shares: Weight of each state; they sum to 1.
    """
    return {name: _mean([state[name] for state in states], shares) for name in states[0]}


def _mean(values: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    share_of: dict[int, float] = {}
    for value, share in zip(values, shares, strict=True):
        share_of[id(value)] = share_of.get(id(value), 0.0) + share
    if len(share_of) == 1 or not values[0].is_floating_point():
        return values[0].detach().clone()
    distinct = {id(value): value for value in values}
    parts = [distinct[key].detach() * share for key, share in share_of.items()]
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total
