"""Parallel split learning in lock-step: one server step on the merged batch of all clients.

Jeon & Kim, "Privacy-Sensitive Parallel Split Learning", ICOIN 2020; the merged batch is also the core of SplitAVG and
MergeSFL. Client: the layers before its cut, data. Server: one half, which holds all batches of a step at once.
Sent per client and round: E n_k (q s + l) up and E n_k q s down, and the client part both ways with `sync`.

The server's loss is the mean over the merged batch, so slice k of its gradient is b_k / sum(b) times the gradient of
client k's own mean loss; `rescale` compensates for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from edgeai.fedsplit.config.split import LockStepConfig, PSLConfig
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.methods.method import Evaluated, Kept, Method, Signature
from edgeai.fedsplit.methods.personal_models import personal_model, personal_models
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.weight_exchange import average_whole_models, send_client_parts, server_weights
from edgeai.fedsplit.protocol.client_half import ClientHalf, PrivateClient, SplitClient
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Reply, Request


class LockStep(Method):
    """Clients in lock-step with one server half; their layers stay private. Subclasses define the answer to a step."""

    cfg: LockStepConfig
    client_half: type[ClientHalf] = PrivateClient
    signature = Signature(activations_up=True, gradients_down=True, labels_up=True)

    def round(self, rnd: Round) -> None:
        """Train in lock-step until the clients run out of batches, according to `uneven`."""
        server = self.open(rnd)
        self.train(rnd, server, {client: Request(at_s=rnd.begin_s) for client in rnd.clients}, "end")
        self.global_model.load(server.weights())

    def open(self, rnd: Round) -> ServerHalf:
        """Build the server half of a round."""
        server = ServerHalf(self.global_model.copy(), self.setup.first, self.setup.cfg.optim)
        rnd.server.hold(server.memory_bytes(self.setup.cfg.batch * len(rnd.clients)))
        return server

    def train(
        self, rnd: Round, server: ServerHalf, requests: dict[int, Request], last_op: Literal["end", "unload"]
    ) -> dict[int, Reply]:
        """Run all steps of a round.

        Args:
            rnd: Current round.
            server: Server half.
            requests: Request that starts each client; updated in place.
            last_op: Operation that ends the round on the clients.

        Returns:
            Final replies that count.
        """
        for clients in lock_steps(self.setup, list(requests), self.cfg.uneven):
            replies = rnd.ask("step", {client: requests[client] for client in clients})
            requests |= self.answer(rnd, server, replies)
        return rnd.accept(rnd.ask(last_op, requests))

    def answer(self, rnd: Round, server: ServerHalf, replies: Mapping[int, Reply]) -> dict[int, Request]:
        """Train the server half on one step's batches; return the answer to each client."""
        return merged_step(rnd, self.setup, server, replies, rescale=True)

    def evaluated(self, kept: Kept) -> Sequence[Evaluated]:
        """Return the personal model of every client."""
        return personal_models(self, kept)

    def model_of(self, client: int, kept: Kept) -> SplitModel | None:
        """Return a client's personal model."""
        return personal_model(self, client, kept)


class PSL(LockStep):
    """Lock-step parallel split learning."""

    cfg: PSLConfig

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if self.cfg.sync:
            self.client_half = SplitClient
            self.signature = Signature(
                activations_up=True, gradients_down=True, labels_up=True, weights_up=True, weights_down=True
            )

    def round(self, rnd: Round) -> None:
        """Train in lock-step; with `sync`, send the client parts before and average them after."""
        if not self.cfg.sync:
            super().round(rnd)
            return
        server = self.open(rnd)
        replies = self.train(rnd, server, send_client_parts(rnd, self.setup, self.global_model, rnd.clients), "unload")
        if replies:
            served = server_weights(dict.fromkeys(replies, server))
            self.global_model.load(average_whole_models(self.setup, replies, served))

    def answer(self, rnd: Round, server: ServerHalf, replies: Mapping[int, Reply]) -> dict[int, Request]:
        """Train on the merged batch; return each client's slice of the gradient."""
        return merged_step(rnd, self.setup, server, replies, rescale=self.cfg.rescale)

    def evaluated(self, kept: Kept) -> Sequence[Evaluated]:
        """Return the global model with `sync`, personal models without."""
        return Method.evaluated(self, kept) if self.cfg.sync else super().evaluated(kept)

    def model_of(self, client: int, kept: Kept) -> SplitModel | None:
        """Return the global model with `sync`, a personal model without."""
        return Method.model_of(self, client, kept) if self.cfg.sync else super().model_of(client, kept)


def lock_steps(setup: Setup, clients: Sequence[int], uneven: Literal["stop", "shrink"]) -> list[list[int]]:
    """Return the clients that take part in each step of a round."""
    left = {client: setup.num_batches(client) for client in clients}
    if uneven == "stop":
        return [list(clients)] * min(left.values())
    return [[client for client in clients if step < left[client]] for step in range(max(left.values()))]


@dataclass(frozen=True)
class Slices:
    """Result of one step on a merged batch."""

    gradients: dict[int, Tensor]
    """Gradient of the merged batch's mean loss at each client's smashed data, [b_k, ...]."""
    num_samples: int
    """Samples in the merged batch."""
    done_s: float
    """End time of the step."""


def merged_step(
    rnd: Round, setup: Setup, server: ServerHalf, replies: Mapping[int, Reply], *, rescale: bool
) -> dict[int, Request]:
    """Train the server half on one merged batch; clients with the same cut share one pass.

    Returns:
        Request with its slice of the gradient for each client.
    """
    slices = step_on_merged(rnd, setup, server, replies)
    requests = {}
    for client, gradient in slices.gradients.items():
        scaled = gradient * (slices.num_samples / len(gradient)) if rescale else gradient
        requests[client] = Request(Message(gradients={"z": scaled}), slices.done_s)
    return requests


def step_on_merged(rnd: Round, setup: Setup, server: ServerHalf, replies: Mapping[int, Reply]) -> Slices:
    """Train the server half on one merged batch; return each client's slice of the gradient."""
    groups = by_cut(setup, replies)
    sent = {client: reply.message for client, reply in replies.items()}
    inputs = {at: torch.cat([sent[client].activations["z"] for client in group]) for at, group in groups.items()}
    labels = {at: torch.cat([sent[client].labels["y"] for client in group]) for at, group in groups.items()}
    step = server.step_merged(inputs, labels)
    total = sum(len(y) for y in labels.values())
    rnd.loss.add(step.loss, total)
    done_s = rnd.server.work(step.flops, max(reply.at_s for reply in replies.values()))
    gradients: dict[int, Tensor] = {}
    for at, group in groups.items():
        sizes = [len(sent[client].labels["y"]) for client in group]
        gradients |= dict(zip(group, step.gradients[at].split(sizes), strict=True))
    return Slices(gradients, total, done_s)


def by_cut(setup: Setup, clients: Iterable[int]) -> dict[int, list[int]]:
    """Group clients by the position of their cut."""
    groups: dict[int, list[int]] = {}
    for client in clients:
        groups.setdefault(setup.positions[client], []).append(client)
    return groups
