"""FedSL: a recurrent net is cut in time; the clients of a chain each run it over their part of a sequence.

Abedi & Khan, "FedSL: Federated Split Learning on Distributed Sequential Data in Recurrent Neural Networks", 2020 (arXiv
2011.03180). Client i of a chain: time steps of segment i, the recurrent layers with weights of its own for that
segment; the last one also the layers behind them, and the labels. Server: the average, over chains, of the weights of
each segment. For every batch the states go down the chain, the loss is the last client's, and gradients come back.
Crosses, per chain and round: E n H s from each client but the last to the next one, E n H s back, n samples of the
chain, H the widths of all recurrent layers; every client's weights down and up.

A chain is `segments` clients in a row. Its samples are those that the partition gave to all its clients; each of them
holds its stretch of every one, and they go through them in a common order, from a shared seed. What goes from client to
client is charged and timed once, on its sender's link. A chain of which someone is missing does not take part.

Differs from the paper: nothing but that; its models are this one with two segments. `cut` has no meaning here.
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
from edgeai.fedsplit.methods.vertical.sequence_chains import InTime, recurrent_end, run_stretch
from edgeai.fedsplit.protocol.batching import derived_seed
from edgeai.fedsplit.protocol.client_half import ClientContext, ClientHalf
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.part import Part
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.transport import Reply, Request

_ORDER = 10
"""What the seed of a chain's order of samples is for."""


class SegmentClient(ClientHalf):
    """One stretch of time. `forward` and `backward` pass on; of the last client `finish` does both."""

    role = "segment"

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        super().__init__(context, parts)
        self.optim = self.optimizer(self.role)
        self._before: dict[str, Tensor] = {}
        self._after: list[Tensor] = []

    def on_load(self, message: Message) -> None:
        """Weights, and which chain it is."""
        self.load(self.role, message.weights)
        self._order = common_order(self.context, int(message.options["chain"]))  # type: ignore[arg-type]

    def on_forward(self, message: Message) -> Message:
        """From the states at the begin of its stretch to those at the end."""
        _, self._after, num_samples = self._run(message)
        self.count(self.role, num_samples, forward=1, held=True)
        return Message(activations={f"h{number}": state.detach() for number, state in enumerate(self._after, 1)})

    def on_finish(self, message: Message) -> Message:
        """Loss and step of the last client; answers with the gradients of the states that it got."""
        logits, _, num_samples = self._run(message)
        loss = F.cross_entropy(logits, self._y)
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()
        self.count(self.role, num_samples, forward=1, backward=1)
        return Message(gradients=self._gradients(), options={"loss": float(loss.detach())})

    def on_backward(self, message: Message) -> Message:
        """Steps on the gradients of the states that it sent; answers with those of the states that it got."""
        self.optim.zero_grad()
        torch.autograd.backward(self._after, list(message.gradients.values()))
        self.optim.step()
        self.count(self.role, len(self._y), backward=1)
        return Message(gradients=self._gradients())

    def on_unload(self, _: Message) -> Message:
        """Ends the round with the weights."""
        return Message(weights=self.weights(self.role))

    def _run(self, message: Message) -> tuple[Tensor, list[Tensor], int]:
        batch = self.batch()
        assert batch is not None, "the chain goes on after its last batch"
        _, x, self._y = batch
        self._before = {name: state.detach().requires_grad_() for name, state in message.activations.items()}
        layers = self.parts[self.role].module
        assert isinstance(layers, nn.Sequential)
        output, after = run_stretch(layers, x, list(self._before.values()))
        return output, after, len(x)

    def _gradients(self) -> dict[str, Tensor]:
        return {name: state.grad for name, state in self._before.items() if state.grad is not None}


def common_order(context: ClientContext, chain: int) -> Iterator[Tensor]:
    """The batches of every client of a chain in one round."""
    for epoch in range(context.epochs):
        generator = torch.Generator().manual_seed(derived_seed(context.seed, context.round, chain, epoch, _ORDER))
        yield from torch.randperm(len(context.samples), generator=generator).split(context.batch)


class FedSL(Method):
    """See the head of this file."""

    cfg: FedSLConfig
    client_half = SegmentClient
    is_split = False
    signature = Signature(activations_up=True, gradients_up=True, weights_up=True, weights_down=True)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        _refuse(setup)
        num, end = self.cfg.segments, recurrent_end(setup.model.model)
        ends = [end] * (num - 1) + [len(setup.model)]
        self.stretches = [
            SplitModel(setup.model.copy().part(0, stop), setup.inputs.shapes[number], setup.model.dtype)
            for number, stop in enumerate(ends)
        ]
        """The weights of each segment."""

    def client_parts(self, client: int) -> dict[str, Part]:
        """The layers for its segment."""
        stretch = self.stretches[client % self.cfg.segments].copy()
        return {"segment": Part(stretch.model, stretch.cost(0, len(stretch)))}

    def round(self, rnd: Round) -> None:
        """All chains side by side, then the average of each segment."""
        chains = self.chains(rnd.clients)
        rnd.late |= set(rnd.clients) - {client for chain in chains for client in chain}
        ended: dict[int, Request] = {}
        for chain in chains:
            ended |= self.train(rnd, chain, self.hand_out(rnd, chain))
        replies = rnd.accept(rnd.ask("unload", ended))
        self.aggregate(rnd, [chain for chain in chains if all(client in replies for client in chain)], replies)

    def chains(self, clients: Sequence[int]) -> list[list[int]]:
        """Those that are complete."""
        num = self.cfg.segments
        present = set(clients)
        found = [list(range(first, first + num)) for first in range(0, len(self.setup.num_samples), num)]
        return [chain for chain in found if present.issuperset(chain)]

    def hand_out(self, rnd: Round, chain: list[int]) -> dict[int, float]:
        """Sends the clients of a chain their weights; returns when each has them."""
        options = {"chain": chain[0] // self.cfg.segments}
        requests = {
            client: Request(Message(weights=stretch.weights(), options=options), rnd.begin_s)
            for client, stretch in zip(chain, self.stretches, strict=True)
        }
        return rnd.tell("load", requests)

    def train(self, rnd: Round, chain: list[int], ready_s: dict[int, float]) -> dict[int, Request]:
        """All batches of one chain; returns what ends the round for each of its clients."""
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
        """Mean loss of a batch, and its size."""
        num_samples = len(next(iter(reply.message.gradients.values())))
        return float(reply.message.options["loss"]), num_samples  # type: ignore[arg-type]

    def aggregate(self, rnd: Round, chains: list[list[int]], replies: Mapping[int, Reply]) -> None:
        """The average of each segment, by the samples of the chains."""
        if not chains:
            return
        shares = self.setup.shares([chain[0] for chain in chains])
        weights_bytes = 0
        for number, stretch in enumerate(self.stretches):
            states = [dict(replies[chain[number]].message.weights) for chain in chains]
            stretch.load(average(states, shares))
            weights_bytes += stretch.cost(0, len(stretch)).weight_bytes
        rnd.server.hold((1 + len(chains)) * weights_bytes)

    def evaluated(self, kept: Kept) -> Sequence[Evaluated]:
        """A chain of the averages."""
        return (Evaluated(InTime([stretch.model for stretch in self.stretches])),)

    def modules(self) -> Mapping[str, nn.Module]:
        """The weights of each segment."""
        return {f"segment{number}": stretch.model for number, stretch in enumerate(self.stretches, 1)}


def _refuse(setup: Setup) -> None:
    """What the method cannot do: states are no smashed data at a cut."""
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
