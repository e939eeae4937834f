"""CycleSL: the server trains on all smashed data first, then sends the gradients of its updated weights.

"CycleSL: Server-Client Cyclical Update Driven Scalable Split Learning", 2025 (the authors' public code).

Client: the layers before its cut, data. Server: one half, all smashed data and labels of a round. The server trains on
the shuffled pool of all clients' smashed data in batches of its own; then its weights are frozen while it computes the
gradients of each client's own batches. Sent per client and round: E n_k (q s + l) up and E n_k q s down, in one
exchange; the client part both ways with `sync`.

Differs from the authors' code: there a round is one batch of each client, here it is all batches (one local epoch), as
for every other method. A device therefore takes one step per batch, after a new forward pass with its current layers;
the gradients of later batches belong to smashed data that are a few steps old. There the server's loss weights a sample
by the size of its client's data set; here each client sends all its samples, which has the same effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from edgeai.fedsplit.config.split import CycleSLConfig
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.methods.cut_gradients import gradient_at
from edgeai.fedsplit.methods.feature_pool import Pool
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

_SHUFFLE_SEED = 11  # purpose of the draw


class CycleClient(SplitClient):
    """Sends the smashed data of all its batches, then trains on all gradients."""

    waits = False

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        super().__init__(context, parts)
        self.inputs: list[Tensor] = []

    def on_features(self, message: Message) -> Iterator[Message]:
        """Send the smashed data of the whole round, computed with the received layers."""
        if message.weights:
            self.load(self.role, message.weights)
        for number, (_, x, y) in enumerate(self.batches()):
            self.inputs.append(x)
            self.count(self.role, len(x), forward=1)
            yield Message(activations={f"z{number}": self.smash_only(x)}, labels={"y": y})

    def on_learn(self, message: Message) -> Message:
        """Take one step per batch."""
        for number, x in enumerate(self.inputs):
            self.smash(x)
            self.apply(Message(gradients={"z": message.gradients[f"z{number}"]}))
        return Message(weights=self.weights(self.role))


class PrivateCycleClient(CycleClient):
    """CycleSL client whose layers never leave the device."""

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        super().__init__(context, parts)
        if self.kept:
            self.load(self.role, self.kept)

    def on_learn(self, message: Message) -> Message:
        """Take one step per batch and keep the weights on the device."""
        self.kept = dict(super().on_learn(message).weights)
        return EMPTY


class CycleSL(Method):
    """Cyclical updates of server and clients."""

    cfg: CycleSLConfig
    client_half = CycleClient
    signature = Signature(activations_up=True, gradients_down=True, labels_up=True, weights_up=True, weights_down=True)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if not self.cfg.sync:
            self.client_half = PrivateCycleClient
            self.signature = Signature(activations_up=True, gradients_down=True, labels_up=True)

    def round(self, rnd: Round) -> None:
        """Collect all smashed data, train the server, send all gradients, train the clients."""
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
        """Return the uploads of every client, in order."""
        requests = {client: Request(self.send(client), rnd.begin_s) for client in rnd.clients}
        sent: dict[int, list[Reply]] = {client: [] for client in rnd.clients}
        for reply in arrivals(rnd.stream("features", requests)):
            sent[reply.client].append(reply)
        return sent

    def send(self, client: int) -> Message:
        """Return the message that starts a client's round."""
        if not self.cfg.sync:
            return EMPTY
        return Message(weights=self.global_model.weights(0, self.setup.positions[client]))

    def train(self, rnd: Round, server: ServerHalf, sent: Mapping[int, Sequence[Reply]]) -> float:
        """Train the server half on the pool; return the end time."""
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
        """Return the gradients of one client's batches, with frozen server weights."""
        gradients = {}
        for reply in replies:
            position = self.setup.positions[reply.client]
            [(name, z)] = reply.message.activations.items()
            gradients[name] = gradient_at(server.tail(position), z, reply.message.labels["y"]) / len(z)
            flops = 2 * len(z) * server.cost(position).forward_flops  # forward, and backward without weight gradients
            at_s = rnd.server.work(flops, at_s)
        return Request(Message(gradients=gradients), at_s)

    def evaluated(self, kept: Kept) -> Sequence[Evaluated]:
        """Return the global model with `sync`, personal models without."""
        return super().evaluated(kept) if self.cfg.sync else personal_models(self, kept)

    def model_of(self, client: int, kept: Kept) -> SplitModel | None:
        """Return the global model with `sync`, a personal model without."""
        return super().model_of(client, kept) if self.cfg.sync else personal_model(self, client, kept)
