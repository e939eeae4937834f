"""Vanilla split learning: clients take turns with one shared client part and one server half.

Gupta & Raskar, "Distributed learning of deep neural network over multiple agents", 2018; alternate mini-batch: Gawali
et al. 2021. Client: the layers before the cut, data. Server: the layers behind it, labels as sent.
Sent per client and round: E n_k (q s + l) up, E n_k q s down, and the client part at each turn: down and up via the
server, or once between peers. Turns do not overlap.

If a client is lost or late, the server half has been trained on its batches, but its layers are discarded: the next
client starts from those before its turn. A turn that would start after the deadline is skipped, and so, with whole
turns, is one after enough clients have delivered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

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
"""From a client's batch to the request with its gradient."""


class Turn(NamedTuple):
    """One turn of a client."""

    client: int
    num_steps: int


class Relay(Method):
    """Relay (vanilla) split learning."""

    cfg: RelayConfig | UShapeConfig | MultiHopConfig
    client_half: type[ClientHalf] = SplitClient
    signature = Signature(activations_up=True, gradients_down=True, labels_up=True, weights_up=True, weights_down=True)

    def round(self, rnd: Round) -> None:
        """Run the clients' turns one after the other, passing the client part on."""
        exchange = self.open(rnd)
        at_s = rnd.begin_s
        for number, turn in enumerate(self.turns(rnd)):
            is_enough = self.cfg.turn == "client" and number - len(rnd.late) >= rnd.cutoff.num_wanted
            if at_s >= rnd.cutoff.limit_s or is_enough:
                rnd.late.add(turn.client)
                continue
            is_from_peer = self.cfg.hand_off == "peer" and (number > 0 or rnd.number > 1)
            at_s = self.play(rnd, exchange, turn, at_s, from_peer=is_from_peer)

    def open(self, rnd: Round) -> Exchange:
        """Build the server half of a round; return the function that serves one batch."""
        server = ServerHalf(self.global_model, self.setup.first, self.setup.cfg.optim)
        rnd.server.hold(server.memory_bytes(self.setup.cfg.batch))
        return lambda reply: serve_batch(rnd, self.setup, server, reply)

    def client_weights(self, client: int) -> Weights:
        """Return the weights that are passed from client to client."""
        return self.global_model.weights(0, self.setup.positions[client])

    def turns(self, rnd: Round) -> list[Turn]:
        """Return all turns of a round, in order."""
        left = {client: self.setup.num_batches(client) for client in rnd.clients}
        if self.cfg.turn == "client":
            return [Turn(client, num_steps) for client, num_steps in left.items()]
        return [Turn(client, 1) for step in range(max(left.values())) for client in rnd.clients if step < left[client]]

    def play(self, rnd: Round, exchange: Exchange, turn: Turn, at_s: float, *, from_peer: bool) -> float:
        """Run one turn; return the time at which the next one can start."""
        client = turn.client
        weights = Message(weights=self.client_weights(client))
        ready_s = rnd.tell("load", {client: Request(weights, at_s, from_peer)})[client]
        request = Request(at_s=ready_s)
        for _ in range(turn.num_steps):
            if request.at_s < rnd.cutoff.limit_s:
                request = exchange(rnd.ask("step", {client: request})[client])
        reply = rnd.ask("unload", {client: request})[client]
        if rnd.accept({client: reply}):
            self.global_model.load(reply.message.weights)
        return reply.at_s
