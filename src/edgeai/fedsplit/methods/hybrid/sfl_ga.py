"""SFL-GA: the gradients at the cut are averaged over the clients, and the one result is broadcast to all.

Liang et al., "Communication-and-Computation Efficient Split Federated Learning: Gradient Aggregation and Resource
Management", 2025 (arXiv 2501.01078). Client: the layers before its cut, which stay private, data. Server: one half,
stepped on the merged batch, which is the average of the paper's replicas after one step of SGD each.
Crosses: E n_k (q s + l) up per client and round; down b q s per step, once for all clients.

Sample i of the batch of every client is given the mean, weighed by n_k / n, over the clients' samples i.

Differs from the paper: the cut stays where the config puts it (the paper moves it by reinforcement learning, and
allocates spectrum and power); clients that are cut elsewhere have an average of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeai.fedsplit.config.hybrid import SFLGAConfig
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.split.psl import LockStep, by_cut, step_on_merged
from edgeai.fedsplit.methods.split.shared_gradient import SharedGradientClient, broadcast, refuse_dp_sgd, shared_mean
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Reply, Request


class SFLGA(LockStep):
    """See the head of this file."""

    cfg: SFLGAConfig
    client_half = SharedGradientClient

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        refuse_dp_sgd(setup)

    def answer(self, rnd: Round, server: ServerHalf, replies: Mapping[int, Reply]) -> dict[int, Request]:
        """The average, to all."""
        slices = step_on_merged(rnd, self.setup, server, replies)
        there_s: dict[int, float] = {}
        for group in by_cut(self.setup, replies).values():
            gradients = [slices.gradients[client] * slices.num_samples for client in group]
            mean = shared_mean(gradients, self.setup.shares(group), max(map(len, gradients)))
            there_s |= broadcast(rnd, group, mean, slices.done_s)
        return {client: Request(at_s=there_s[client]) for client in replies}
