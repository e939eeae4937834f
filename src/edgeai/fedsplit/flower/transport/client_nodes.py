"""The Flower node of each client. Nodes may join and leave; each reports the client whose data it holds."""

from __future__ import annotations

import time

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from edgeai.core.errors import EdgeAIError


class ClientNodes:
    """Table of connected nodes by client.

    Args:
        grid: Flower's grid.
        num_clients: Number of clients of the run; nodes with higher client numbers are ignored.
        interval_s: Time between two polls.
        patience_s: Time limit for nodes to connect and to report their client number.
    """

    def __init__(self, grid: Grid, num_clients: int, *, interval_s: float, patience_s: float) -> None:
        self._grid, self._num_clients = grid, num_clients
        self._interval_s, self._patience_s = interval_s, patience_s
        self._client_of: dict[int, int] = {}
        self._asked: dict[str, tuple[int, float]] = {}  # by message id: node, when
        self.node_of: dict[int, int] = {}
        """Ids of the connected nodes by client."""

    def refresh(self) -> None:
        """Update the table, asking new nodes for their client number."""
        there = set(self._grid.get_node_ids())
        self._ask([node for node in there if node not in self._client_of])
        self._listen()
        # the latest report of a client wins: after a restart Flower may still list the client's old node
        self.node_of = {client: node for node, client in self._client_of.items() if node in there}

    def wait_for(self, num_wanted: int, *, at_least: int | None = None) -> None:
        """Wait until clients are connected.

        Args:
            num_wanted: Number of clients to wait for.
            at_least: Number that suffices once the time limit has passed; None for `num_wanted`.

        Raises:
            EdgeAIError: Too few clients connect in time.
        """
        until_s = time.monotonic() + self._patience_s
        while True:
            self.refresh()
            if len(self.node_of) >= num_wanted:
                return
            if time.monotonic() > until_s:
                if at_least is not None and len(self.node_of) >= at_least:
                    return
                raise EdgeAIError(
                    f"only {len(self.node_of)} of {num_wanted} clients are connected after {self._patience_s:g} s",
                    hint="start more: edgeai fedsplit up --nodes N",
                )
            time.sleep(self._interval_s)

    def _ask(self, nodes: list[int]) -> None:
        now_s = time.monotonic()
        waiting = {node for node, asked_s in self._asked.values() if now_s - asked_s < self._patience_s}
        fresh = [node for node in nodes if node not in waiting]
        if fresh:
            messages = [Message(RecordDict(), node, "query.hello") for node in fresh]
            for pushed, node in zip(self._grid.push_messages(messages), fresh, strict=True):
                self._asked[pushed] = (node, now_s)

    def _listen(self) -> None:
        if not self._asked:
            return
        for reply in self._grid.pull_messages(list(self._asked)):
            node, _ = self._asked.pop(reply.metadata.reply_to_message_id, (None, 0.0))
            if node is None or reply.has_error():
                continue
            client = int(reply.content["hello"]["client"])
            if 0 <= client < self._num_clients:
                self._client_of[node] = client
