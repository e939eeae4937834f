"""SplitFed and its generalisations: parallel split learning with averaged parts.

V1, V2: Thapa et al., "SplitFed: When Federated Learning Meets Split Learning", AAAI 2022, algorithms 1 and 2.
V3: Gawali et al., "Comparison of Privacy-Preserving Distributed Deep Learning Methods in Healthcare", 2021.
SFLG: Gao et al., "Evaluation and Optimization of Distributed Machine Learning Techniques for Internet of Things", 2021.
Without client sync: Joshi et al., "SplitFed without client-side synchronization" (MHSL), 2021.

Client: the layers before its cut, data. Server: the layers behind it, labels as sent.
Crosses, per client and round: E n_k (q s + l) up and E n_k q s down at the cut; the client part down and up where it is
averaged. A round starts every part's optimizer anew, which makes V1 with SGD equal FedAvg to the bit.
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
    """What the versions share: clients in parallel, `groups` decides who shares a server half."""

    client_half = SplitClient
    signature = Signature(activations_up=True, gradients_down=True, labels_up=True, weights_up=True, weights_down=True)

    @abstractmethod
    def groups(self, clients: Sequence[int]) -> list[list[int]]:
        """Clients that share a server half."""

    def round(self, rnd: Round) -> None:
        """Client parts down, batches, client parts up, average."""
        servers = self.servers(rnd)
        ready = send_client_parts(rnd, self.setup, self.global_model, rnd.clients)
        ended = self.serve(rnd, servers, ready)
        replies = rnd.accept(rnd.ask("unload", ended))
        if replies:
            self.global_model.load(average_whole_models(self.setup, replies, server_weights(servers)))

    def serve(self, rnd: Round, servers: Mapping[int, ServerHalf], ready: Mapping[int, Request]) -> dict[int, Request]:
        """All batches of the round; returns what ends it for each client."""
        return interleave(rnd, self.setup, servers, ready)

    def servers(self, rnd: Round) -> dict[int, ServerHalf]:
        """A server half for each group, by client."""
        halves: dict[int, ServerHalf] = {}
        num_bytes = 0
        for group in self.groups(rnd.clients):
            half = ServerHalf(self.global_model.copy(), self.setup.first, self.setup.cfg.optim)
            num_bytes += half.memory_bytes(self.setup.cfg.batch)
            halves |= dict.fromkeys(group, half)
        rnd.server.hold(num_bytes)
        return halves


class SplitFedV1(SplitFed):
    """A replica of the server half for every client, all averaged."""

    def groups(self, clients: Sequence[int]) -> list[list[int]]:
        """Everyone alone."""
        return [[client] for client in clients]


class SFLG(SplitFed):
    """V2 inside a group, V1 across groups: one group is V2, a group for each client is V1."""

    cfg: SFLGConfig

    def groups(self, clients: Sequence[int]) -> list[list[int]]:
        """Neighbours; sizes differ by one at most."""
        num_groups = min(self.cfg.groups, len(clients))
        edges = [len(clients) * number // num_groups for number in range(num_groups + 1)]
        return [list(clients[start:stop]) for start, stop in pairwise(edges)]


class SplitFedV2(SplitFed):
    """One server half, stepped on every batch; client parts averaged, or private without `sync`."""

    cfg: SplitFedV2Config

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if not self.cfg.sync:
            self.client_half = PrivateClient
            self.signature = Signature(activations_up=True, gradients_down=True, labels_up=True)

    def groups(self, clients: Sequence[int]) -> list[list[int]]:
        """All together."""
        return [list(clients)]

    def serve(self, rnd: Round, servers: Mapping[int, ServerHalf], ready: Mapping[int, Request]) -> dict[int, Request]:
        """In the order that the config asks for."""
        server = servers[rnd.clients[0]]
        if self.cfg.server_order == "client":
            return client_by_client(rnd, self.setup, server, ready)
        if self.cfg.server_order == "arrival":
            return by_arrival(rnd, self.setup, server, ready)
        return interleave(rnd, self.setup, servers, ready)

    def round(self, rnd: Round) -> None:
        """As all do; without sync, only the server half is the round's outcome."""
        if self.cfg.sync:
            super().round(rnd)
            return
        servers = self.servers(rnd)
        ended = self.serve(rnd, servers, {client: Request(at_s=rnd.begin_s) for client in rnd.clients})
        rnd.accept(rnd.ask("end", ended))
        self.global_model.load(servers[rnd.clients[0]].weights())

    def evaluated(self, kept: Kept) -> Sequence[Evaluated]:
        """Without sync every client has a model of its own."""
        return super().evaluated(kept) if self.cfg.sync else personal_models(self, kept)

    def model_of(self, client: int, kept: Kept) -> SplitModel | None:
        """Likewise."""
        return super().model_of(client, kept) if self.cfg.sync else personal_model(self, client, kept)


class SplitFedV3(SplitFed):
    """Replicas of the server half are averaged; client parts stay private."""

    client_half = PrivateClient
    signature = Signature(activations_up=True, gradients_down=True, labels_up=True)

    def groups(self, clients: Sequence[int]) -> list[list[int]]:
        """Everyone alone."""
        return [[client] for client in clients]

    def round(self, rnd: Round) -> None:
        """Batches, then the average of the server halves of those that were in time."""
        servers = self.servers(rnd)
        ended = self.serve(rnd, servers, {client: Request(at_s=rnd.begin_s) for client in rnd.clients})
        clients = list(rnd.accept(rnd.ask("end", ended)))
        if clients:
            served = server_weights(servers)
            self.global_model.load(average([served[client] for client in clients], self.setup.shares(clients)))

    def evaluated(self, kept: Kept) -> Sequence[Evaluated]:
        """Every client's own model."""
        return personal_models(self, kept)

    def model_of(self, client: int, kept: Kept) -> SplitModel | None:
        """Likewise."""
        return personal_model(self, client, kept)
