"""Client selection of AdaSplit by an upper confidence bound (UCB) on the server's loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


class Orchestrator:
    """Selects clients by an upper confidence bound (UCB) on the server's loss.

    Args:
        discount: Factor on past losses per selection.
    """

    def __init__(self, discount: float) -> None:
        self._discount = discount
        self._num_choices = 0
        self._known: dict[int, list[float]] = {}  # by client: discounted sums of losses and of weights, pulls

    def choose(self, clients: Sequence[int], num: int) -> list[int]:
        """Select `num` of the clients, in ascending order."""
        self._num_choices += 1
        for known in self._known.values():
            known[0] *= self._discount
            known[1] *= self._discount
        best = sorted(clients, key=lambda client: (-self.score(client), client))
        return sorted(best[:num])

    def score(self, client: int) -> float:
        """Return the discounted mean loss plus sqrt(2 log t / pulls); infinite before the first pull."""
        if client not in self._known:
            return math.inf
        loss, weight, num_pulls = self._known[client]
        return loss / weight + math.sqrt(2 * math.log(self._num_choices) / num_pulls)

    def saw(self, client: int, loss: float) -> None:
        """Record the server's loss on a selected client."""
        known = self._known.setdefault(client, [0.0, 0.0, 0.0])
        known[0] += loss
        known[1] += 1
        known[2] += 1

    def state(self) -> dict[str, Any]:
        """Return the statistics as plain numbers."""
        return {"num_choices": self._num_choices, "known": {client: list(one) for client, one in self._known.items()}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._num_choices = state["num_choices"]
        self._known = {client: list(one) for client, one in state["known"].items()}
