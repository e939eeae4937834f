"""Parallel split learning in lock-step: one server step on the merged batch of all clients.

Jeon & Kim, "Privacy-Sensitive Parallel Split Learning", ICOIN 2020; the merged batch is also the core of SplitAVG and
MergeSFL. Client: the layers before its cut, data. Server: one half, which holds all batches of a step at once.
Crosses, per client and round: E n_k (q s + l) up and E n_k q s down, and the client part both ways with `sync`.

The server's loss is the mean over the merged batch, so slice k of its gradient is b_k / sum(b) of what client k's own
mean loss would give; `rescale` makes up for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from edgeai.fedsplit.halves import PrivateClient, ServerHalf, SplitClient
from edgeai.fedsplit.message import Message
from edgeai.fedsplit.method import Evaluated, Kept, Method, Round, Setup, Signature
from edgeai.fedsplit.method_schema import PSLConfig
from edgeai.fedsplit.methods.moves import hand_out, own_model, own_models, stitched, weights_served
from edgeai.fedsplit.split import SplitModel
from edgeai.fedsplit.transport import Reply, Request


class PSL(Method):
    """See the head of this file."""

    cfg: PSLConfig
    client_half = SplitClient
    signature = Signature(activations_up=True, gradients_down=True, labels_up=True, weights_up=True, weights_down=True)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if not self.cfg.sync:
            self.client_half = PrivateClient
            self.signature = Signature(activations_up=True, gradients_down=True, labels_up=True)

    def round(self, rnd: Round) -> None:
        """Lock-step until the clients run out of batches, as `uneven` says."""
        server = ServerHalf(self.global_model.copy(), self.setup.first, self.setup.cfg.optim)
        rnd.hold(server.memory_bytes(self.setup.cfg.batch * len(rnd.clients)))
        if self.cfg.sync:
            requests = hand_out(rnd, self.setup, self.global_model, rnd.clients)
        else:
            requests = {client: Request(at_s=rnd.begin_s) for client in rnd.clients}
        for clients in self.steps(rnd.clients):
            replies = rnd.ask("step", {client: requests[client] for client in clients})
            requests |= merged_step(rnd, self.setup, server, replies, rescale=self.cfg.rescale)
        replies = rnd.accept(rnd.ask("unload" if self.cfg.sync else "end", requests))
        if self.cfg.sync and replies:
            served = weights_served(dict.fromkeys(replies, server))
            self.global_model.load(stitched(self.setup, replies, served))
        elif not self.cfg.sync:
            self.global_model.load(server.weights())

    def steps(self, clients: Sequence[int]) -> list[list[int]]:
        """Who takes part in each step."""
        left = {client: self.setup.num_batches(client) for client in clients}
        if self.cfg.uneven == "stop":
            return [list(clients)] * min(left.values())
        return [[client for client in clients if step < left[client]] for step in range(max(left.values()))]

    def evaluated(self, kept: Kept) -> Sequence[Evaluated]:
        """Without sync every client has a model of its own."""
        return super().evaluated(kept) if self.cfg.sync else own_models(self, kept)

    def model_of(self, client: int, kept: Kept) -> SplitModel | None:
        """Likewise."""
        return super().model_of(client, kept) if self.cfg.sync else own_model(self, client, kept)


def merged_step(
    rnd: Round, setup: Setup, server: ServerHalf, replies: Mapping[int, Reply], *, rescale: bool
) -> dict[int, Request]:
    """One step of the server on what several clients sent; clients with the same cut are merged into one pass.

    Returns:
        Each client's slice of the gradient.
    """
    at_s = max(reply.at_s for reply in replies.values())
    groups: dict[int, list[int]] = {}
    for client in replies:
        groups.setdefault(setup.positions[client], []).append(client)
    inputs = {
        position: torch.cat([replies[client].message.activations["z"] for client in clients])
        for position, clients in groups.items()
    }
    labels = {
        position: torch.cat([replies[client].message.labels["y"] for client in clients])
        for position, clients in groups.items()
    }
    step = server.step_merged(inputs, labels)
    total = sum(len(y) for y in labels.values())
    rnd.loss(step.loss, total)
    done_s = rnd.work(step.flops, at_s)
    requests = {}
    for position, clients in groups.items():
        sizes = [len(replies[client].message.labels["y"]) for client in clients]
        for client, size, gradient in zip(clients, sizes, step.gradients[position].split(sizes), strict=True):
            scaled = gradient * (total / size) if rescale else gradient
            requests[client] = Request(Message(gradients={"z": scaled}), done_s)
    return requests
