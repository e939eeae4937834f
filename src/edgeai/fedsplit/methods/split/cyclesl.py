"""CycleSL: the server learns from all smashed data first, then gives the gradients of what it has become.

"CycleSL: Server-Client Cyclical Update Driven Scalable Split Learning", 2025 (the authors' public code).

Client: the layers before its cut, data. Server: one half, all smashed data and labels of a round. The server trains on
the pool of all clients' smashed data, shuffled, in batches of its own; then its weights rest while it computes the
gradient of each client's own batches. Crosses, per client and round: E n_k (q s + l) up and E n_k q s down, in one
exchange; the client part both ways with `sync`.

Differs from the authors' code: there a round is one batch of each client, here it is all of them (one local epoch),
as for every other method. A device therefore steps once for each batch, runs it forward again with the layers as they
are by then, and the gradients of later batches belong to smashed data that are a few steps old. There the server's
loss weighs a sample by the size of its client's data set; here each client has sent all its samples, which does that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from edgeai.fedsplit.config.split import CycleSLConfig
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.methods.feature_pool import Pool
from edgeai.fedsplit.methods.hybrid.fsl_sage import gradient_at
from edgeai.fedsplit.methods.method import Evaluated, Kept, Method, Signature
from edgeai.fedsplit.methods.personal_models import personal_model, personal_models
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.weight_exchange import average_whole_models, server_weights
from edgeai.fedsplit.protocol.batching import derived_seed
from edgeai.fedsplit.protocol.client_half import ClientContext, SplitClient
from edgeai.fedsplit.protocol.message import EMPTY, Message
from edgeai.fedsplit.protocol.part import Part
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Reply, Request, arrivals

_SHUFFLE_SEED = 11  # what a draw is for


class CycleClient(SplitClient):
    """Sends smashed data of all its batches, and learns when all gradients are there."""

    waits = False

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        super().__init__(context, parts)
        self.inputs: list[Tensor] = []

    def on_features(self, message: Message) -> Iterator[Message]:
        """Smashed data of the whole round, with the layers as they come down."""
        if message.weights:
            self.load(self.role, message.weights)
        for number, (_, x, y) in enumerate(self.batches()):
            self.inputs.append(x)
            yield Message(activations={f"z{number}": self.features(x)}, labels={"y": y})

    def features(self, x: Tensor) -> Tensor:
        """Smashed data as they are sent; nothing is learnt from this pass."""
        with torch.no_grad():
            z: Tensor = self.parts[self.role].module(x)
            self.count(self.role, len(x), forward=1)
            return z if self.context.protect is None else self.context.protect.smashed(z)

    def on_learn(self, message: Message) -> Message:
        """One step for each batch."""
        for number, x in enumerate(self.inputs):
            self.smash(x)
            self.apply(Message(gradients={"z": message.gradients[f"z{number}"]}))
        return Message(weights=self.weights(self.role))


class PrivateCycleClient(CycleClient):
    """The same with layers that never leave the device."""

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        super().__init__(context, parts)
        if self.kept:
            self.load(self.role, self.kept)

    def on_learn(self, message: Message) -> Message:
        """Keeps the outcome."""
        self.kept = dict(super().on_learn(message).weights)
        return EMPTY


class CycleSL(Method):
    """See the head of this file."""

    cfg: CycleSLConfig
    client_half = CycleClient
    signature = Signature(activations_up=True, gradients_down=True, labels_up=True, weights_up=True, weights_down=True)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if not self.cfg.sync:
            self.client_half = PrivateCycleClient
            self.signature = Signature(activations_up=True, gradients_down=True, labels_up=True)

    def round(self, rnd: Round) -> None:
        """All smashed data up, the server learns, all gradients down, the devices learn."""
        server = ServerHalf(self.global_model.copy(), self.setup.first, self.setup.cfg.optim)
        sent = self.collect(rnd)
        done_s = self.train(rnd, server, sent)
        requests = {client: self.answer(rnd, server, replies, done_s) for client, replies in sent.items()}
        replies = rnd.accept(rnd.ask("learn", requests))
        if not self.cfg.sync:
            self.global_model.load(server.weights())
        elif replies:
            served = server_weights(dict.fromkeys(replies, server))
            self.global_model.load(average_whole_models(self.setup, replies, served))

    def collect(self, rnd: Round) -> dict[int, list[Reply]]:
        """Every client's uploads, in its order."""
        requests = {client: Request(self.send(client), rnd.begin_s) for client in rnd.clients}
        sent: dict[int, list[Reply]] = {client: [] for client in rnd.clients}
        for reply in arrivals(rnd.stream("features", requests)):
            sent[reply.client].append(reply)
        return sent

    def send(self, client: int) -> Message:
        """What a client begins with."""
        if not self.cfg.sync:
            return EMPTY
        return Message(weights=self.global_model.weights(0, self.setup.positions[client]))

    def train(self, rnd: Round, server: ServerHalf, sent: Mapping[int, Sequence[Reply]]) -> float:
        """The server learns from the pool; returns when it is done."""
        cfg, pool = self.setup.cfg, Pool()
        size = self.cfg.server_batch or cfg.batch
        for client, replies in sent.items():
            for reply in replies:
                pool.add(self.setup.positions[client], *reply.message.activations.values(), reply.message.labels["y"])
        rnd.server.hold(server.memory_bytes(size) + pool.num_bytes)
        at_s = max(replies[-1].at_s for replies in sent.values())
        for epoch in range(self.cfg.server_epochs):
            for position, (z, y) in pool.batches(size, derived_seed(cfg.seed, rnd.number, epoch, _SHUFFLE_SEED)):
                step = server.step(position, z, y)
                rnd.loss.add(step.loss, len(z))
                at_s = rnd.server.work(step.flops, at_s)
        return at_s

    def answer(self, rnd: Round, server: ServerHalf, replies: Sequence[Reply], at_s: float) -> Request:
        """The gradients of one client's batches, by a server that rests."""
        gradients = {}
        for reply in replies:
            position = self.setup.positions[reply.client]
            [(name, z)] = reply.message.activations.items()
            gradients[name] = gradient_at(server.tail(position), z, reply.message.labels["y"]) / len(z)
            flops = 2 * len(z) * server.cost(position).forward_flops  # forward, and backward without weight gradients
            at_s = rnd.server.work(flops, at_s)
        return Request(Message(gradients=gradients), at_s)

    def evaluated(self, kept: Kept) -> Sequence[Evaluated]:
        """Without sync every client has a model of its own."""
        return super().evaluated(kept) if self.cfg.sync else personal_models(self, kept)

    def model_of(self, client: int, kept: Kept) -> SplitModel | None:
        """Likewise."""
        return super().model_of(client, kept) if self.cfg.sync else personal_model(self, client, kept)
