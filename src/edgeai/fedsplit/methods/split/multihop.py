"""Multi-hop split learning: a chain of servers, each with a stretch of the model behind the client part.

Vepakomma et al., "Split learning for health: Distributed deep learning without sharing raw patient data", 2018 (the
multi-hop configuration). Client: the layers before the cut, data. First server: passes the client part on and holds the
layers up to the first hop; each further server holds those up to the next hop; the last one computes the loss.
Sent per client and round: as in relay split learning, and at each hop E n_k (q s + l) forward and E n_k q s back, over
the link between servers. Labels are sent along with the activations and charged at every hop. Codecs apply to the
clients' links only.

The layers are the same in the same order, so the result equals that of relay to the bit.
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
    """Relay split learning over a chain of servers."""

    cfg: MultiHopConfig

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.hops = further_cuts(setup, self.cfg.hops, "method.hops")

    def open(self, rnd: Round) -> Exchange:
        """Build all servers of a round. The recorded memory is that of the largest one."""
        model, optim = self.global_model, self.setup.cfg.optim
        relays = [Stretch(model, start, stop, optim) for start, stop in pairwise([self.setup.first, *self.hops])]
        last = ServerHalf(model, self.hops[-1], optim)
        batch = self.setup.cfg.batch
        for num_bytes in [*(relay.memory_bytes(batch) for relay in relays), last.memory_bytes(batch)]:
            rnd.server.hold(num_bytes)
        return lambda reply: self.exchange(rnd, relays, last, reply)

    def exchange(self, rnd: Round, relays: list[Stretch], last: ServerHalf, reply: Reply) -> Request:
        """Pass a batch through all hops, train the last server, and pass the gradient back."""
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
        """Send activations and labels to the next server; return the arrival time."""
        return rnd.server.pass_on(Message(activations=activations, labels={"y": y}), at_s=at_s, direction="up")
