"""CPSL: clusters of clients train one after the other; within a cluster clients train in parallel on merged batches.

Wu et al., "Split Learning over Wireless Networks: Parallel Design and Resource Management", IEEE JSAC 2023. Client: the
layers before its cut, data. Server: one half, labels as sent. A cluster receives the client part and trains in
lock-step for the local epochs; its client parts are averaged by n_k / n of the cluster, and the next cluster starts
from the average. Sent per client and round: E n_k (q s + l) up, E n_k q s down, and the client part both ways.
One cluster equals PSL, one cluster per client equals relay, both to the bit.

Differs from the paper: clusters contain clients with similar expected time per sample, which shortens waiting in
lock-step; the paper searches clusters by Gibbs sampling together with the spectrum in each round, and the cut by sample
average approximation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from edgeai.fedsplit.config.hybrid import CPSLConfig
from edgeai.fedsplit.methods.expected_time import seconds_per_sample
from edgeai.fedsplit.methods.method import Method, Signature
from edgeai.fedsplit.methods.split.psl import lock_steps, merged_step
from edgeai.fedsplit.methods.weight_exchange import average_whole_models, send_client_parts, server_weights
from edgeai.fedsplit.protocol.client_half import SplitClient
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf


class CPSL(Method):
    """Cluster-wise parallel split learning."""

    cfg: CPSLConfig
    client_half = SplitClient
    signature = Signature(activations_up=True, gradients_down=True, labels_up=True, weights_up=True, weights_down=True)

    def round(self, rnd: Round) -> None:
        """Train the clusters one after the other."""
        server = ServerHalf(self.global_model, self.setup.first, self.setup.cfg.optim)
        at_s = rnd.begin_s
        for clients in self.clusters(rnd.clients):
            rnd.server.hold(server.memory_bytes(self.setup.cfg.batch * len(clients)))
            at_s = self.cluster(rnd, server, clients, at_s)

    def clusters(self, clients: Sequence[int]) -> list[list[int]]:
        """Return clusters of clients with similar speed, the fastest first; sizes differ by at most one."""
        num = min(self.cfg.clusters, len(clients))
        by_speed = sorted(clients, key=lambda client: seconds_per_sample(self.setup, client))
        edges = [len(clients) * number // num for number in range(num + 1)]
        return [sorted(by_speed[start:stop]) for start, stop in pairwise(edges)]

    def cluster(self, rnd: Round, server: ServerHalf, clients: list[int], at_s: float) -> float:
        """Train one cluster; return the time at which the next one can start."""
        requests = send_client_parts(rnd, self.setup, self.global_model, clients, at_s)
        for present in lock_steps(self.setup, clients, self.cfg.uneven):
            replies = rnd.ask("step", {client: requests[client] for client in present})
            requests |= merged_step(rnd, self.setup, server, replies, rescale=True)
        replies = rnd.ask("unload", requests)
        counted = rnd.accept(replies)
        if counted:
            served = server_weights(dict.fromkeys(counted, server))
            self.global_model.load(average_whole_models(self.setup, counted, served))
        return max(reply.at_s for reply in (counted or replies).values())
