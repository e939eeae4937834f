"""SFL-GA: gradients at the cut are averaged over the clients and broadcast to all of them.

Liang et al., "Communication-and-Computation Efficient Split Federated Learning: Gradient Aggregation and Resource
Management", 2025 (arXiv 2501.01078). Client: the layers before its cut, which stay private, data. Server: one half,
trained on the merged batch, which equals the average of the paper's replicas after one SGD step each.
Sent: E n_k (q s + l) up per client and round; down b q s per step, once for all clients.

Sample i of every client's batch receives the mean over the clients' samples i, weighted by n_k / n.

Differs from the paper: the cut is fixed by the config (the paper moves it by reinforcement learning, and allocates
spectrum and power); clients with different cuts are averaged separately.
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
    """Lock-step split learning with one broadcast mean gradient."""

    cfg: SFLGAConfig
    client_half = SharedGradientClient

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        refuse_dp_sgd(setup)

    def answer(self, rnd: Round, server: ServerHalf, replies: Mapping[int, Reply]) -> dict[int, Request]:
        """Train on the merged batch and broadcast the mean gradient of each cut."""
        slices = step_on_merged(rnd, self.setup, server, replies)
        arrived_s: dict[int, float] = {}
        for group in by_cut(self.setup, replies).values():
            gradients = [slices.gradients[client] * slices.num_samples for client in group]
            mean = shared_mean(gradients, self.setup.shares(group), max(map(len, gradients)))
            arrived_s |= broadcast(rnd, group, mean, slices.done_s)
        return {client: Request(at_s=arrived_s[client]) for client in replies}
