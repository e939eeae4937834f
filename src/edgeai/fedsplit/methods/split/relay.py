"""Vanilla split learning: clients take turns with one logical client part and one server half.

Gupta & Raskar, "Distributed learning of deep neural network over multiple agents", 2018; alternate mini-batch: Gawali
et al. 2021. Client: the layers before the cut, data. Server: the layers behind it, labels as sent.
Crosses, per client and round: E n_k (q s + l) up, E n_k q s down, and the client part at each turn: down and up by way
of the server, or once between peers. Nothing overlaps.

Of a client that is lost or late the server has learnt; its layers do not come back, and the next one begins with those
from before its turn. Whose turn would come after the deadline, or, with whole turns, after as many as are wanted have
delivered, has none.
"""

from __future__ import annotations

from collections.abc import Callable

from edgeai.fedsplit.config.split import MultiHopConfig, RelayConfig, UShapeConfig
from edgeai.fedsplit.cuts.weights import Weights
from edgeai.fedsplit.methods.method import Method, Signature
from edgeai.fedsplit.methods.scheduling import serve_batch
from edgeai.fedsplit.protocol.client_half import ClientHalf, SplitClient
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Reply, Request

Exchange = Callable[[Reply], Request]
"""From a batch that a client sent to the gradient that it gets."""


class Relay(Method):
    """See the head of this file."""

    cfg: RelayConfig | UShapeConfig | MultiHopConfig
    client_half: type[ClientHalf] = SplitClient
    signature = Signature(activations_up=True, gradients_down=True, labels_up=True, weights_up=True, weights_down=True)

    def round(self, rnd: Round) -> None:
        """One turn after the other; the client part goes from hand to hand."""
        exchange = self.open(rnd)
        at_s = rnd.begin_s
        for number, (client, num_steps) in enumerate(self.turns(rnd)):
            is_enough = self.cfg.turn == "client" and number - len(rnd.late) >= rnd.cutoff.num_wanted
            if at_s >= rnd.cutoff.limit_s or is_enough:
                rnd.late.add(client)
                continue
            is_handed_on = self.cfg.hand_off == "peer" and (number > 0 or rnd.number > 1)
            at_s = self.turn(rnd, exchange, client, num_steps, at_s, from_peer=is_handed_on)

    def open(self, rnd: Round) -> Exchange:
        """Makes the server's side ready for a round; returns what it does with one batch."""
        server = ServerHalf(self.global_model, self.setup.first, self.setup.cfg.optim)
        rnd.server.hold(server.memory_bytes(self.setup.cfg.batch))
        return lambda reply: serve_batch(rnd, self.setup, server, reply)

    def client_weights(self, client: int) -> Weights:
        """What goes from hand to hand."""
        return self.global_model.weights(0, self.setup.positions[client])

    def turns(self, rnd: Round) -> list[tuple[int, int]]:
        """Clients in order, with the batches of each turn."""
        left = {client: self.setup.num_batches(client) for client in rnd.clients}
        if self.cfg.turn == "client":
            return list(left.items())
        return [(client, 1) for step in range(max(left.values())) for client in rnd.clients if step < left[client]]

    def turn(
        self, rnd: Round, exchange: Exchange, client: int, num_steps: int, at_s: float, *, from_peer: bool
    ) -> float:
        """One client's turn; returns when the next one can begin."""
        weights = Message(weights=self.client_weights(client))
        ready_s = rnd.tell("load", {client: Request(weights, at_s, from_peer)})[client]
        request = Request(at_s=ready_s)
        for _ in range(num_steps):
            if request.at_s < rnd.cutoff.limit_s:
                request = exchange(rnd.ask("step", {client: request})[client])
        reply = rnd.ask("unload", {client: request})[client]
        if rnd.accept({client: reply}):
            self.global_model.load(reply.message.weights)
        return reply.at_s
