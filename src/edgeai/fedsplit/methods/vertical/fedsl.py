"""FedSL: a recurrent network split in time; each client of a chain runs it over its segment of a sequence.

Abedi & Khan, "FedSL: Federated Split Learning on Distributed Sequential Data in Recurrent Neural Networks", 2020 (arXiv
2011.03180). Client i of a chain: time steps of segment i, the recurrent layers with separate weights for that segment;
the last client also the layers behind them, and the labels. Server: the average over chains of the weights of each
segment. For every batch the states are passed along the chain, the last client computes the loss, and gradients are
passed back. Sent per chain and round: E n H s from each client but the last to the next one, E n H s back, with n
samples in the chain and H the total width of all recurrent layers; every client's weights down and up.

A chain consists of `segments` consecutive clients. Its samples are those that the partition assigned to its clients;
each client holds its segment of every sample, and all use a common order from a shared seed. A message between clients
is charged and timed once, on its sender's link. A chain with a missing client does not take part.

Differs from the paper: these rules for chains; the paper's models are this one with two segments. `cut` is not used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.codec import CodecConfig
from edgeai.fedsplit.config.vertical import FedSLConfig
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.cuts.weights import average
from edgeai.fedsplit.methods.method import Evaluated, Kept, Method, Signature
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.vertical.sequence_chains import ChainModel, recurrent_end, run_segment
from edgeai.fedsplit.protocol.batching import derived_seed, permuted
from edgeai.fedsplit.protocol.client_half import ClientContext, ClientHalf
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.part import Part
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.transport import Reply, Request

_ORDER = 10
"""Purpose of the seed of a chain's sample order."""


class SegmentClient(ClientHalf):
    """Client half for one time segment: `forward` and `backward`, or `finish` for the last client of a chain."""

    role = "segment"

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        super().__init__(context, parts)
        self.optim = self.optimizer(self.role)
        self._before: dict[str, Tensor] = {}
        self._after: list[Tensor] = []

    def on_load(self, message: Message) -> None:
        """Load the weights and set the sample order of the chain."""
        self.load(self.role, message.weights)
        self._order = common_order(self.context, int(message.number("chain")))

    def on_forward(self, message: Message) -> Message:
        """Answer with the states at the end of the segment, given those at its start."""
        _, self._after, num_samples = self._run(message)
        self.count(self.role, num_samples, forward=1, held=True)
        return Message(activations={f"h{number}": state.detach() for number, state in enumerate(self._after, 1)})

    def on_finish(self, message: Message) -> Message:
        """Compute the loss and train the last client; answer with the gradients of the received states."""
        logits, _, num_samples = self._run(message)
        loss = F.cross_entropy(logits, self._y)
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()
        self.count(self.role, num_samples, forward=1, backward=1)
        return Message(gradients=self._gradients(), options={"loss": float(loss.detach())})

    def on_backward(self, message: Message) -> Message:
        """Train on the gradients of the sent states; answer with those of the received states."""
        self.optim.zero_grad()
        torch.autograd.backward(self._after, list(message.gradients.values()))
        self.optim.step()
        self.count(self.role, len(self._y), backward=1)
        return Message(gradients=self._gradients())

    def on_unload(self, _: Message) -> Message:
        """Answer with the weights."""
        return Message(weights=self.weights(self.role))

    def _run(self, message: Message) -> tuple[Tensor, list[Tensor], int]:
        batch = self.batch()
        assert batch is not None, "the chain continues after its last batch"
        _, x, self._y = batch
        self._before = {name: state.detach().requires_grad_() for name, state in message.activations.items()}
        layers = self.parts[self.role].module
        assert isinstance(layers, nn.Sequential)
        output, after = run_segment(layers, x, list(self._before.values()))
        return output, after, len(x)

    def _gradients(self) -> dict[str, Tensor]:
        return {name: state.grad for name, state in self._before.items() if state.grad is not None}


def common_order(context: ClientContext, chain: int) -> Iterator[Tensor]:
    """Yield the batches of a round, the same for every client of a chain."""
    for epoch in range(context.epochs):
        seed = derived_seed(context.seed, context.round, chain, epoch, _ORDER)
        yield from permuted(len(context.samples), context.batch, seed)


class FedSL(Method):
    """Split learning in time over chains of clients."""

    cfg: FedSLConfig
    client_half = SegmentClient
    is_split = False
    signature = Signature(activations_up=True, gradients_up=True, weights_up=True, weights_down=True)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        _refuse(setup)
        num, end = self.cfg.segments, recurrent_end(setup.model.model)
        ends = [end] * (num - 1) + [len(setup.model)]
        self.segment_models = [
            SplitModel(setup.model.copy().part(0, stop), setup.inputs.shapes[number], setup.model.dtype)
            for number, stop in enumerate(ends)
        ]
        """Model of each segment."""

    def client_parts(self, client: int) -> dict[str, Part]:
        """Return the layers for a client's segment."""
        segment_model = self.segment_models[client % self.cfg.segments].copy()
        return {"segment": Part(segment_model.model, segment_model.cost(0, len(segment_model)))}

    def round(self, rnd: Round) -> None:
        """Train all chains in parallel, then average the weights of each segment."""
        chains = self.chains(rnd.clients)
        rnd.late |= set(rnd.clients) - {client for chain in chains for client in chain}
        ended: dict[int, Request] = {}
        for chain in chains:
            ended |= self.train(rnd, chain, self.hand_out(rnd, chain))
        replies = rnd.accept(rnd.ask("unload", ended))
        self.aggregate(rnd, [chain for chain in chains if all(client in replies for client in chain)], replies)

    def chains(self, clients: Sequence[int]) -> list[list[int]]:
        """Return the complete chains."""
        num = self.cfg.segments
        present = set(clients)
        found = [list(range(first, first + num)) for first in range(0, len(self.setup.num_samples), num)]
        return [chain for chain in found if present.issuperset(chain)]

    def hand_out(self, rnd: Round, chain: list[int]) -> dict[int, float]:
        """Send the clients of a chain their weights; return the arrival times."""
        options = {"chain": chain[0] // self.cfg.segments}
        requests = {
            client: Request(Message(weights=segment_model.weights(), options=options), rnd.begin_s)
            for client, segment_model in zip(chain, self.segment_models, strict=True)
        }
        return rnd.tell("load", requests)

    def train(self, rnd: Round, chain: list[int], ready_s: dict[int, float]) -> dict[int, Request]:
        """Train one chain on all batches; return the request that ends the round of each client."""
        *others, last = chain
        ready_s = dict(ready_s)
        for _ in range(self.setup.num_batches(chain[0])):
            request = Request(at_s=ready_s[chain[0]])
            for client, following in zip(others, chain[1:], strict=True):
                reply = rnd.ask("forward", {client: request})[client]
                at_s = max(reply.at_s, ready_s[following])
                request = Request(Message(activations=reply.message.activations), at_s, from_peer=True)
            reply = rnd.ask("finish", {last: request})[last]
            rnd.loss.add(*self.loss_of(reply))
            ready_s[last] = reply.client_s
            for client in reversed(others):
                request = Request(Message(gradients=reply.message.gradients), reply.at_s, from_peer=True)
                reply = rnd.ask("backward", {client: request})[client]
                ready_s[client] = reply.client_s
        return {client: Request(at_s=ready_s[client]) for client in chain}

    def loss_of(self, reply: Reply) -> tuple[float, int]:
        """Return the mean loss of a batch and its size."""
        num_samples = len(next(iter(reply.message.gradients.values())))
        return reply.message.number("loss"), num_samples

    def aggregate(self, rnd: Round, chains: list[list[int]], replies: Mapping[int, Reply]) -> None:
        """Average the weights of each segment, weighted by the samples of the chains."""
        if not chains:
            return
        shares = self.setup.shares([chain[0] for chain in chains])
        weights_bytes = 0
        for number, segment_model in enumerate(self.segment_models):
            states = [dict(replies[chain[number]].message.weights) for chain in chains]
            segment_model.load(average(states, shares))
            weights_bytes += segment_model.cost(0, len(segment_model)).weight_bytes
        rnd.server.hold((1 + len(chains)) * weights_bytes)

    def evaluated(self, kept: Kept) -> Sequence[Evaluated]:
        """Return the chain of averaged models."""
        return (Evaluated(ChainModel([segment_model.model for segment_model in self.segment_models])),)

    def modules(self) -> Mapping[str, nn.Module]:
        """Return the model of each segment."""
        return {f"segment{number}": segment_model.model for number, segment_model in enumerate(self.segment_models, 1)}


def _refuse(setup: Setup) -> None:
    """Reject options that act on smashed data: recurrent states are not smashed data."""
    if not setup.cfg.privacy.is_off:
        raise UsageError(
            "method fedsl sends recurrent states from client to client, which no privacy option protects",
            hint="leave privacy empty",
        )
    if setup.cfg.codec != CodecConfig():
        raise UsageError(
            "method fedsl sends recurrent states from client to client, which no codec packs",
            hint="leave codec empty",
        )
