"""HSFL: some clients train the whole model (FL mode), others split it (SL mode); one average over both.

Liu, Deng & Mahmoodi, "Wireless Distributed Learning: A New Hybrid Split and Federated Learning Approach", IEEE
Transactions on Wireless Communications 2022. FL client: all layers, data, labels. SL client: the layers before its
cut, data. Server: a replica of the layers behind the cut for every SL client, labels as sent.
Sent per round: N s down and up for an FL client; E n_k (q s + l) up, E n_k q s down, and the client part both ways
for an SL client. With no client in SL mode this equals FedAvg, with all of them SplitFed V1, both to the bit.

Differs from the paper: modes are assigned once, and the slowest devices split; the paper chooses clients and modes
before every round, by a bandit over channel states and update norms.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.hybrid import HSFLConfig
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.cuts.weights import Weights
from edgeai.fedsplit.methods.federated.fedavg import FullClient, note_losses
from edgeai.fedsplit.methods.method import Kept, Method, Signature
from edgeai.fedsplit.methods.scheduling import interleave
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.weight_exchange import average_whole_models, send_client_parts, server_weights
from edgeai.fedsplit.protocol.client_half import ClientContext, SplitClient
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.part import Part
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Reply, Request


class HybridClient(SplitClient, FullClient):
    """Client half of either mode, determined by the role of its part."""

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        [self.role] = parts
        super().__init__(context, parts)


class HSFL(Method):
    """Hybrid of federated and split clients."""

    cfg: HSFLConfig
    client_half = HybridClient
    signature = Signature(activations_up=True, gradients_down=True, labels_up=True, weights_up=True, weights_down=True)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.splitting = frozenset(slowest(setup, self.cfg.split_frac))
        """Clients in SL mode."""
        if not self.splitting:
            self.signature = Signature(weights_up=True, weights_down=True)
        if setup.cfg.privacy.noise is not None and len(self.splitting) < len(setup.num_samples):
            raise UsageError(
                "privacy.noise acts on smashed data, but some hsfl clients send none",
                hint="set method.split_frac to 1, or leave privacy.noise empty",
            )

    def client_parts(self, client: int) -> dict[str, Part]:
        """Return the layers before the cut in SL mode, all layers in FL mode."""
        if client in self.splitting:
            return super().client_parts(client)
        return {"model": self.fresh_part(0, len(self.setup.model))}

    def round(self, rnd: Round) -> None:
        """Train both modes in parallel, then average all models."""
        whole = Message(weights=self.global_model.weights())
        full = rnd.ask("train", {k: Request(whole, rnd.begin_s) for k in rnd.clients if k not in self.splitting})
        servers = self.servers(rnd)
        ready = send_client_parts(rnd, self.setup, self.global_model, list(servers))
        split = rnd.ask("unload", interleave(rnd, self.setup, servers, ready))
        both = full | split
        replies = rnd.accept({client: both[client] for client in rnd.clients})
        note_losses(rnd, self.setup, {client: reply for client, reply in replies.items() if client in full})
        if replies:
            served = whole_models(full) | server_weights(servers)
            self.global_model.load(average_whole_models(self.setup, replies, served))

    def servers(self, rnd: Round) -> dict[int, ServerHalf]:
        """Return a server replica for every client in SL mode."""
        clients = [client for client in rnd.clients if client in self.splitting]
        first = min((self.setup.positions[client] for client in clients), default=0)
        halves = {client: ServerHalf(self.global_model.copy(), first, self.setup.cfg.optim) for client in clients}
        model_bytes = self.setup.model.cost(0, len(self.setup.model)).weight_bytes
        num_full = len(rnd.clients) - len(clients)
        rnd.server.hold(sum(h.memory_bytes(self.setup.cfg.batch) for h in halves.values()) + num_full * model_bytes)
        return halves

    def model_of(self, client: int, kept: Kept) -> SplitModel | None:
        """Return the global model for a client in SL mode, None in FL mode, where nothing crosses the cut."""
        return super().model_of(client, kept) if client in self.splitting else None


def slowest(setup: Setup, frac: float) -> list[int]:
    """Return the slowest clients, a share `frac` of all; ties are broken by client number."""
    clients = range(len(setup.num_samples))
    by_speed = sorted(clients, key=lambda client: setup.world.device(client).flops_per_s)
    return by_speed[: round(Fraction(frac).limit_denominator(10**6) * len(by_speed))]


def whole_models(replies: Mapping[int, Reply]) -> dict[int, Weights]:
    """Return the received whole models by client."""
    return {client: dict(reply.message.weights) for client, reply in replies.items()}
