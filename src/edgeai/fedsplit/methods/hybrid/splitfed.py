"""SplitFed and its generalizations: parallel split learning with averaged parts.

V1, V2: Thapa et al., "SplitFed: When Federated Learning Meets Split Learning", AAAI 2022, algorithms 1 and 2.
V3: Gawali et al., "Comparison of Privacy-Preserving Distributed Deep Learning Methods in Healthcare", 2021.
SFLG: Gao et al., "Evaluation and Optimization of Distributed Machine Learning Techniques for Internet of Things", 2021.
Without client sync: Joshi et al., "SplitFed without client-side synchronization" (MHSL), 2021.

Client: the layers before its cut, data. Server: the layers behind it, labels as sent.
Sent per client and round: E n_k (q s + l) up and E n_k q s down at the cut; the client part down and up if it is
averaged. Every part's optimizer starts anew in each round, so that V1 with SGD equals FedAvg to the bit.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise

from edgeai.fedsplit.config.hybrid import SFLGConfig, SplitFedV2Config
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.cuts.weights import average
from edgeai.fedsplit.methods.method import Evaluated, Kept, Method, Signature
from edgeai.fedsplit.methods.personal_models import personal_model, personal_models
from edgeai.fedsplit.methods.scheduling import by_arrival, client_by_client, interleave
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.weight_exchange import average_whole_models, send_client_parts, server_weights
from edgeai.fedsplit.protocol.client_half import PrivateClient, SplitClient
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Request


class SplitFed(Method):
    """Clients train in parallel; `groups` determines which of them share a server half."""

    client_half = SplitClient
    signature = Signature(activations_up=True, gradients_down=True, labels_up=True, weights_up=True, weights_down=True)

    @abstractmethod
    def groups(self, clients: Sequence[int]) -> list[list[int]]:
        """Return the groups of clients that share a server half."""

    def round(self, rnd: Round) -> None:
        """Send the client parts, train on all batches, collect the client parts, and average."""
        servers = self.servers(rnd)
        ready = send_client_parts(rnd, self.setup, self.global_model, rnd.clients)
        ended = self.serve(rnd, servers, ready)
        replies = rnd.accept(rnd.ask("unload", ended))
        if replies:
            self.global_model.load(average_whole_models(self.setup, replies, server_weights(servers)))

    def serve(self, rnd: Round, servers: Mapping[int, ServerHalf], ready: Mapping[int, Request]) -> dict[int, Request]:
        """Train on all batches; return the request that ends the round of each client."""
        return interleave(rnd, self.setup, servers, ready)

    def servers(self, rnd: Round) -> dict[int, ServerHalf]:
        """Build a server half per group; return the half of each client."""
        halves: dict[int, ServerHalf] = {}
        num_bytes = 0
        for group in self.groups(rnd.clients):
            half = ServerHalf(self.global_model.copy(), self.setup.first, self.setup.cfg.optim)
            num_bytes += half.memory_bytes(self.setup.cfg.batch)
            halves |= dict.fromkeys(group, half)
        rnd.server.hold(num_bytes)
        return halves


class SplitFedV1(SplitFed):
    """SplitFed V1: one server replica per client, all averaged."""

    def groups(self, clients: Sequence[int]) -> list[list[int]]:
        """Return one group per client: one server replica per client."""
        return [[client] for client in clients]


class SFLG(SplitFed):
    """SFLG: V2 within a group, V1 across groups. One group equals V2, one group per client V1."""

    cfg: SFLGConfig

    def groups(self, clients: Sequence[int]) -> list[list[int]]:
        """Return groups of consecutive clients, whose sizes differ by at most one."""
        num_groups = min(self.cfg.groups, len(clients))
        edges = [len(clients) * number // num_groups for number in range(num_groups + 1)]
        return [list(clients[start:stop]) for start, stop in pairwise(edges)]


class SplitFedV2(SplitFed):
    """SplitFed V2: one server half, trained on every batch; client parts averaged, or private without `sync`."""

    cfg: SplitFedV2Config

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if not self.cfg.sync:
            self.client_half = PrivateClient
            self.signature = Signature(activations_up=True, gradients_down=True, labels_up=True)

    def groups(self, clients: Sequence[int]) -> list[list[int]]:
        """Return a single group: one server half for all clients."""
        return [list(clients)]

    def serve(self, rnd: Round, servers: Mapping[int, ServerHalf], ready: Mapping[int, Request]) -> dict[int, Request]:
        """Train on all batches in the configured order."""
        server = servers[rnd.clients[0]]
        if self.cfg.server_order == "client":
            return client_by_client(rnd, self.setup, server, ready)
        if self.cfg.server_order == "arrival":
            return by_arrival(rnd, self.setup, server, ready)
        return interleave(rnd, self.setup, servers, ready)

    def round(self, rnd: Round) -> None:
        """Run a SplitFed round; without `sync`, update only the server half."""
        if self.cfg.sync:
            super().round(rnd)
            return
        servers = self.servers(rnd)
        ended = self.serve(rnd, servers, {client: Request(at_s=rnd.begin_s) for client in rnd.clients})
        rnd.accept(rnd.ask("end", ended))
        self.global_model.load(servers[rnd.clients[0]].weights())

    def evaluated(self, kept: Kept) -> Sequence[Evaluated]:
        """Return the global model with `sync`, personal models without."""
        return super().evaluated(kept) if self.cfg.sync else personal_models(self, kept)

    def model_of(self, client: int, kept: Kept) -> SplitModel | None:
        """Return the global model with `sync`, a personal model without."""
        return super().model_of(client, kept) if self.cfg.sync else personal_model(self, client, kept)


class SplitFedV3(SplitFed):
    """SplitFed V3: averaged server replicas, private client parts."""

    client_half = PrivateClient
    signature = Signature(activations_up=True, gradients_down=True, labels_up=True)

    def groups(self, clients: Sequence[int]) -> list[list[int]]:
        """Return one group per client: one server replica per client."""
        return [[client] for client in clients]

    def round(self, rnd: Round) -> None:
        """Train on all batches, then average the server replicas of the clients that count."""
        servers = self.servers(rnd)
        ended = self.serve(rnd, servers, {client: Request(at_s=rnd.begin_s) for client in rnd.clients})
        clients = list(rnd.accept(rnd.ask("end", ended)))
        if clients:
            served = server_weights(servers)
            self.global_model.load(average([served[client] for client in clients], self.setup.shares(clients)))

    def evaluated(self, kept: Kept) -> Sequence[Evaluated]:
        """Return the personal model of every client."""
        return personal_models(self, kept)

    def model_of(self, client: int, kept: Kept) -> SplitModel | None:
        """Return a client's personal model."""
        return personal_model(self, client, kept)
