"""Split learning over a chain: behind the client's part come servers that each hold a stretch of the model.

Vepakomma et al., "Split learning for health: Distributed deep learning without sharing raw patient data", 2018 (the
multi-hop configuration). Client: the layers before the cut, data. First server: it hands the client part on, and holds
the layers up to the first hop; each further one those up to the next; the last one has the loss.
Crosses, per client and round: as in relay split learning, and at each hop E n_k (q s + l) on, E n_k q s back, over the
link between servers. Labels go along with the activations, so every hop pays for them. Codecs work
on the clients' links only.

The parts are the same ones in the same order, whoever holds them: the outcome is that of relay, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor

from edgeai.fedsplit.config.split import MultiHopConfig
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.split.middle_server import Stretch, further_cuts
from edgeai.fedsplit.methods.split.relay import Exchange, Relay
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Reply, Request


class MultiHop(Relay):
    """See the head of this file."""

    cfg: MultiHopConfig

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.hops = further_cuts(setup, self.cfg.hops, "method.hops")

    def open(self, rnd: Round) -> Exchange:
        """All servers. The memory that counts is that of the fullest of them."""
        model, optim = self.global_model, self.setup.cfg.optim
        relays = [Stretch(model, start, stop, optim) for start, stop in pairwise([self.setup.first, *self.hops])]
        last = ServerHalf(model, self.hops[-1], optim)
        batch = self.setup.cfg.batch
        for num_bytes in [*(relay.memory_bytes(batch) for relay in relays), last.memory_bytes(batch)]:
            rnd.server.hold(num_bytes)
        return lambda reply: self.exchange(rnd, relays, last, reply)

    def exchange(self, rnd: Round, relays: list[Stretch], last: ServerHalf, reply: Reply) -> Request:
        """On through all hops, a step of the last server, and back."""
        z, y = reply.message.activations["z"], reply.message.labels["y"]
        lanes = [number % self.setup.world.lanes for number in range(len(relays) + 1)]
        start: int | None = self.setup.positions[reply.client]
        backward_flops = []
        at_s = reply.at_s
        for lane, relay in zip(lanes, relays, strict=False):
            forward, backward = relay.flops(len(z), start)
            backward_flops.append(backward)
            z, start = relay.forward(z, start), None
            at_s = self.hop(rnd, {"z": z}, y, rnd.server.work(forward, at_s, lane=lane))
        step = last.step(self.hops[-1], z, y)
        rnd.loss.add(step.loss, len(z))
        at_s = rnd.server.work(step.flops, at_s, lane=lanes[-1])
        gradient = step.gradient
        for number in reversed(range(len(relays))):
            at_s = rnd.server.pass_on(Message(gradients={"z": gradient}), at_s=at_s, direction="down")
            gradient = relays[number].backward(gradient)
            at_s = rnd.server.work(backward_flops[number], at_s, lane=lanes[number])
        return Request(Message(gradients={"z": gradient}), at_s)

    def hop(self, rnd: Round, activations: Mapping[str, Tensor], y: Tensor, at_s: float) -> float:
        """From one server to the next; returns when it is there."""
        return rnd.server.pass_on(Message(activations=activations, labels={"y": y}), at_s=at_s, direction="up")
