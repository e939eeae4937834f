"""Hierarchical SplitFed: clients connected to edge servers, edge servers connected to a cloud.

Liu et al., "Client-Edge-Cloud Hierarchical Federated Learning", ICC 2020 (HierFAVG), with split clients: every edge
runs SplitFed V2 with its clients and averages their layers; every `cloud_every` rounds the cloud averages the edges'
whole models and sends the mean back.
Client: the layers before its cut, data. Edge: the layers behind the cut of its clients, labels as sent, the average of
their layers. Cloud: the average of the edges. Sent per client and round: as in SplitFed V2. Between edges and cloud,
every `cloud_every` rounds: N s up for each edge that was trained since, N s down for each edge, over one backhaul.

With one edge this equals SplitFed V2 to the bit; with `cloud_every` 1 it equals SFLG up to rounding. The weight of an
edge is the number of samples it was trained on since the cloud's last average.

Server lanes represent edges: with as many lanes as edges, each edge computes on its own lane.
Between two cloud averages every client has its edge's model, and the mean over clients is reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from edgeai.fedsplit.config.hybrid import HierarchicalConfig
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.cuts.weights import average
from edgeai.fedsplit.methods.method import Evaluated, Kept, Method, Signature
from edgeai.fedsplit.methods.scheduling import interleave
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.weight_exchange import average_whole_models, send_client_parts, server_weights
from edgeai.fedsplit.protocol.client_half import SplitClient
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Reply, Request


class Hierarchical(Method):
    """SplitFed V2 at every edge, with periodic averaging in the cloud."""

    cfg: HierarchicalConfig
    client_half = SplitClient
    signature = Signature(activations_up=True, gradients_down=True, labels_up=True, weights_up=True, weights_down=True)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.edges = [setup.model.copy() for _ in range(min(self.cfg.edges, len(setup.num_samples)))]
        """Model of each edge."""
        self.num_learnt = [0] * len(self.edges)
        """Samples that each edge was trained on since the cloud's last average."""

    def warnings(self) -> tuple[str, ...]:
        """Return a warning if edges share a server lane."""
        num_edges, lanes = len(self.edges), self.setup.world.lanes
        if lanes >= num_edges:
            return ()
        return (f"{num_edges} edges share {lanes} of the server's lanes: set world.server.lanes to {num_edges}",)

    def edge_of(self, client: int) -> int:
        """Return a client's edge: consecutive clients share one, and sizes differ by at most one."""
        return client * len(self.edges) // len(self.setup.num_samples)

    def round(self, rnd: Round) -> None:
        """Run SplitFed V2 at each edge; every `cloud_every` rounds, average in the cloud."""
        servers = self.servers(rnd)
        ready: dict[int, Request] = {}
        for client in rnd.clients:
            ready |= send_client_parts(rnd, self.setup, self.edges[self.edge_of(client)], [client])
        replies = rnd.accept(rnd.ask("unload", interleave(rnd, self.setup, servers, ready)))
        for edge, model in enumerate(self.edges):
            mine = self.below(edge, replies)
            if mine:
                model.load(average_whole_models(self.setup, mine, server_weights(servers)))
                self.num_learnt[edge] += sum(self.setup.num_samples[client] for client in mine)
        if rnd.number % self.cfg.cloud_every == 0 and any(self.num_learnt):
            self.average_in_cloud(rnd, replies)

    def servers(self, rnd: Round) -> dict[int, ServerHalf]:
        """Build a server half per edge; return the half of each client."""
        setup = self.setup
        edges = sorted({self.edge_of(client) for client in rnd.clients})
        halves = {edge: ServerHalf(self.edges[edge].copy(), setup.first, setup.cfg.optim) for edge in edges}
        rnd.server.hold(sum(half.memory_bytes(setup.cfg.batch) for half in halves.values()))
        return {client: halves[self.edge_of(client)] for client in rnd.clients}

    def below(self, edge: int, replies: Mapping[int, Reply]) -> dict[int, Reply]:
        """Return the replies of an edge's clients."""
        return {client: reply for client, reply in replies.items() if self.edge_of(client) == edge}

    def average_in_cloud(self, rnd: Round, replies: Mapping[int, Reply]) -> None:
        """Average the edges in the cloud; an edge uploads as soon as its last counted reply has arrived."""
        trained = [edge for edge, num_samples in enumerate(self.num_learnt) if num_samples]
        weights = [edge.weights() for edge in self.edges]
        arrived_s = [
            rnd.server.pass_on(Message(weights=weights[edge]), at_s=self.ready_s(rnd, edge, replies), direction="up")
            for edge in trained
        ]
        total = sum(self.num_learnt)
        self.global_model.load(
            average([weights[edge] for edge in trained], [self.num_learnt[edge] / total for edge in trained])
        )
        for edge in self.edges:
            arrived_at_s = rnd.server.pass_on(Message(weights=self.global_model.weights()), at_s=max(arrived_s))
            rnd.server.extend(arrived_at_s)
            edge.load(self.global_model.weights())
        self.num_learnt = [0] * len(self.edges)

    def ready_s(self, rnd: Round, edge: int, replies: Mapping[int, Reply]) -> float:
        """Return the time at which an edge can upload: its last reply, or the end of the round if one is missing."""
        mine = self.below(edge, replies)
        if len(mine) < sum(self.edge_of(client) == edge for client in rnd.clients):
            return rnd.server.end_s
        return max((reply.at_s for reply in mine.values()), default=rnd.begin_s)

    def evaluated(self, kept: Kept) -> Sequence[Evaluated]:
        """Return the cloud's model right after a cloud average, otherwise each client's edge model."""
        if not any(self.num_learnt):
            return super().evaluated(kept)
        models = [self.whole(edge) for edge in self.edges]
        return [Evaluated(models[self.edge_of(client)], client) for client in range(len(self.setup.num_samples))]

    def model_of(self, client: int, kept: Kept) -> SplitModel | None:
        """Return the model of a client's edge."""
        return self.edges[self.edge_of(client)]

    def modules(self) -> Mapping[str, nn.Module]:
        """Return the models of the cloud and the edges."""
        return {**super().modules(), **{f"edge.{number}": edge.model for number, edge in enumerate(self.edges)}}

    def extra(self) -> dict[str, Any]:
        """Return the number of samples of each edge since the last cloud average."""
        return {"num_learnt": list(self.num_learnt)}

    def load_extra(self, extra: dict[str, Any]) -> None:
        """Restore what `extra` returned."""
        self.num_learnt = list(extra["num_learnt"])
