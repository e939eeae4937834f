"""SGLR: scaled server learning rate, and one averaged gradient vector for a share of the clients; no client sync.

Pal et al., "Server-Side Local Gradient Averaging and Learning Rate Acceleration for Scalable Split Learning", FL-AAAI
2022. Client: the layers before its cut, which stay private, data. Server: one half, stepped on the merged batch.
SplitLr: with K clients in the round the server's learning rate is the client's times K^alpha, because its batch is K
times as large. SplitAvg: for a share phi of the clients, drawn anew in each round, the gradient at the cut is averaged
over clients and samples, and all their samples receive that vector.
Sent per client and round: E n_k (q s + l) up; down q s per step for the share phi, E n_k q s for the others.

Differs from the paper: clients with different cuts are averaged separately. phi K is rounded to whole clients.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from edgeai.fedsplit.config.split import SGLRConfig
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.split.psl import LockStep, by_cut, step_on_merged
from edgeai.fedsplit.methods.split.shared_gradient import refuse_dp_sgd
from edgeai.fedsplit.protocol.batching import derived_seed
from edgeai.fedsplit.protocol.client_half import PrivateClient
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Reply, Request

_AVERAGED = 10
"""Purpose of the client draw."""


class AveragedClient(PrivateClient):
    """Accepts its own gradient, or one vector for all samples."""

    def apply(self, message: Message) -> None:
        """Train on the received gradient; the loss is the mean over the own batch."""
        mean = message.gradients.get("mean")
        if mean is not None:
            assert self.pending is not None, "a gradient was received before any activation was sent"
            z = self.pending.z
            message = Message(gradients={"z": (mean / len(z)).expand_as(z)})
        super().apply(message)


class SGLR(LockStep):
    """Split learning with SplitLr and SplitAvg."""

    cfg: SGLRConfig
    client_half = AveragedClient

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if self.cfg.average_frac > 0:
            refuse_dp_sgd(setup)

    def open(self, rnd: Round) -> ServerHalf:
        """Build the server half with its scaled learning rate."""
        scale = len(rnd.clients) ** self.cfg.lr_power
        server = ServerHalf(self.global_model.copy(), self.setup.first, self.setup.cfg.optim, lr_scale=scale)
        rnd.server.hold(server.memory_bytes(self.setup.cfg.batch * len(rnd.clients)))
        return server

    def averaged(self, rnd: Round) -> set[int]:
        """Draw the clients that receive the average in this round."""
        random = np.random.default_rng(derived_seed(self.setup.cfg.seed, rnd.number, _AVERAGED))
        num = round(self.cfg.average_frac * len(rnd.clients))
        return set(random.choice(rnd.clients, num, replace=False).tolist())

    def answer(self, rnd: Round, server: ServerHalf, replies: Mapping[int, Reply]) -> dict[int, Request]:
        """Train on the merged batch; return the averaged vector or the client's own slice."""
        slices = step_on_merged(rnd, self.setup, server, replies)
        averaged = self.averaged(rnd)
        messages = {
            client: Message(gradients={"z": gradient * (slices.num_samples / len(gradient))})
            for client, gradient in slices.gradients.items()
            if client not in averaged
        }
        for group in by_cut(self.setup, [client for client in replies if client in averaged]).values():
            mean = mean_vector([slices.gradients[client] for client in group]) * slices.num_samples
            messages |= {client: Message(gradients={"mean": mean}) for client in group}
        return {client: Request(messages[client], slices.done_s) for client in replies}


def mean_vector(gradients: list[Tensor]) -> Tensor:
    """Return the mean over all samples of all clients, [1, ...]."""
    return torch.cat(gradients).mean(0, keepdim=True)
