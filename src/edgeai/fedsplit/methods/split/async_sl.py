"""Asynchronous split learning: clients are updated, or even asked, only while the loss moves.

Chen et al., "Communication and Computation Reduction for Split Learning using Asynchronous Training", SiPS 2021 (arXiv
2107.09786). Client: the layers before the cut, data. Server: the layers behind it, labels, and a cache of smashed data.
A round is one of three, by how far the loss has moved since the clients' last update:
- full, if it moved by more than delta: relay split learning, the client part handed on by way of the server;
- forward, otherwise: the client part stays as it is; smashed data go up once, no gradient comes back;
- reuse, if that was done before: nothing crosses, the server trains on what it has.
Crosses, per client: E n_k (q s + l) up, E n_k q s down and the client part both ways in a full round; n_k (q s + l) up
and the client part down in a forward round; nothing in a reuse round.

Batches are the same in every round and epoch, so what is cached is what would be sent again. A client whose smashed
data are not there yet is asked for them in a reuse round.

Differs from the paper: at most `max_reuse` rounds of reuse follow each other. Data are quantised by `codec`, if asked.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from edgeai.fedsplit.config.split import AsyncSLConfig
from edgeai.fedsplit.methods.method import Method, Signature
from edgeai.fedsplit.methods.scheduling import serve_batch
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.weight_exchange import send_client_parts
from edgeai.fedsplit.protocol.batching import derived_seed
from edgeai.fedsplit.protocol.client_half import ClientContext, SplitClient
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf

_ORDER = 10
"""What the seed of a client's order of samples is for."""


class AsyncClient(SplitClient):
    """Its batches are the same in every round."""

    def on_forward(self, _: Message) -> Iterator[Message]:
        """Sends the smashed data of every sample once; the layers stay as they are."""
        part, protect = self.parts[self.role], self.context.protect
        for indices in fixed_order(self.context):
            x, y = self.context.samples.x[indices], self.context.samples.y[indices]
            with torch.no_grad():
                z = part.module(x)
                if protect is not None:
                    z, y = protect.smashed(z), protect.labels(indices, y)
            self.flops += len(x) * part.cost.forward_flops
            yield Message(activations={"z": z}, labels={"y": y})

    def _batches(self) -> Iterator[Tensor]:
        return itertools.chain.from_iterable([fixed_order(self.context)] * self.context.epochs)


def fixed_order(context: ClientContext) -> tuple[Tensor, ...]:
    """A client's batches, the same in every round."""
    generator = torch.Generator().manual_seed(derived_seed(context.seed, context.client, _ORDER))
    return torch.randperm(len(context.samples), generator=generator).split(context.batch)


@dataclass(frozen=True)
class Pace:
    """What decides on the next round.

    Args:
        is_frozen: Clients are not updated.
        reference: Mean loss of the round in which they were last, None before any.
        num_reused: Rounds of reuse since.
    """

    is_frozen: bool = False
    reference: float | None = None
    num_reused: int = 0

    def after(self, loss: float, *, was_reuse: bool, cfg: AsyncSLConfig) -> Pace:
        """What decides on the round after one with this loss; NaN, as nobody was in time, changes nothing."""
        if math.isnan(loss):
            return self
        has_moved = self.reference is None or abs(loss - self.reference) > cfg.threshold
        if not self.is_frozen:
            return Pace(not has_moved, loss, 0)
        num_reused = self.num_reused + was_reuse
        return replace(self, is_frozen=not has_moved and num_reused < cfg.max_reuse, num_reused=num_reused)


class AsyncSL(Method):
    """See the head of this file."""

    cfg: AsyncSLConfig
    client_half = AsyncClient
    signature = Signature(activations_up=True, gradients_down=True, labels_up=True, weights_up=True, weights_down=True)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.pace = Pace()
        self.cache: dict[int, list[tuple[Tensor, Tensor]]] = {}
        """Batches (z, y) of each client, from its part as it is now."""

    def round(self, rnd: Round) -> None:
        """Of one of the three kinds."""
        server = ServerHalf(self.global_model, self.setup.first, self.setup.cfg.optim)
        unknown = [client for client in rnd.clients if client not in self.cache]
        was_reuse = self.pace.is_frozen and not unknown
        rnd.notes["is_full_round"] = float(not self.pace.is_frozen)
        if self.pace.is_frozen:
            self.train_server(rnd, server, self.fetch(rnd, unknown))
        else:
            self.cache.clear()
            self.relay(rnd, server)
        self.pace = self.pace.after(rnd.loss.mean, was_reuse=was_reuse, cfg=self.cfg)

    def relay(self, rnd: Round, server: ServerHalf) -> None:
        """One client after the other, with full exchanges."""
        rnd.server.hold(server.memory_bytes(self.setup.cfg.batch))
        at_s = rnd.begin_s
        for client in rnd.clients:
            if at_s >= rnd.cutoff.limit_s:
                rnd.late.add(client)
                continue
            request = send_client_parts(rnd, self.setup, self.global_model, [client], at_s)[client]
            for _ in range(self.setup.num_batches(client)):
                if request.at_s < rnd.cutoff.limit_s:
                    request = serve_batch(rnd, self.setup, server, rnd.ask("step", {client: request})[client])
            reply = rnd.ask("unload", {client: request})[client]
            if rnd.accept({client: reply}):
                self.global_model.load(reply.message.weights)
            at_s = reply.at_s

    def fetch(self, rnd: Round, clients: list[int]) -> dict[int, list[float]]:
        """Gets the smashed data that are not there, all at once: no client waits for another one.

        Returns:
            When each batch is there, by client, of those that were in time with all.
        """
        ready = send_client_parts(rnd, self.setup, self.global_model, clients)
        arrived = {client: list(replies) for client, replies in rnd.stream("forward", ready).items()}
        counted = rnd.accept({client: replies[-1] for client, replies in arrived.items()})
        for client in counted:
            messages = [reply.message for reply in arrived[client]]
            self.cache[client] = [(message.activations["z"], message.labels["y"]) for message in messages]
        return {client: [reply.at_s for reply in arrived[client]] for client in counted}

    def train_server(self, rnd: Round, server: ServerHalf, there_s: dict[int, list[float]]) -> None:
        """Trains on what is cached, client by client; of new data, each batch from when it is there."""
        cached_bytes = sum(z.nbytes + y.nbytes for batches in self.cache.values() for z, y in batches)
        rnd.server.hold(server.memory_bytes(self.setup.cfg.batch) + cached_bytes)
        for client in [client for client in rnd.clients if client in self.cache]:
            times_s = there_s.get(client, [rnd.begin_s] * len(self.cache[client]))
            for _ in range(self.setup.cfg.local_epochs):
                for (z, y), at_s in zip(self.cache[client], times_s, strict=True):
                    step = server.step(self.setup.positions[client], z, y)
                    rnd.loss.add(step.loss, len(y))
                    rnd.server.work(step.flops, at_s)

    def extra(self) -> dict[str, Any]:
        """What decides on the next round, and the cache."""
        return {"pace": asdict(self.pace), "cache": {client: list(batches) for client, batches in self.cache.items()}}

    def load_extra(self, extra: dict[str, Any]) -> None:
        """Likewise."""
        self.pace, self.cache = Pace(**extra["pace"]), dict(extra["cache"])
