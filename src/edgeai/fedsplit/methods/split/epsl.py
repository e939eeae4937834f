"""EPSL: parallel split learning that averages a share of the last-layer gradients over the clients.

Lin et al., "Efficient Parallel Split Learning over Resource-constrained Wireless Edge Networks", IEEE TMC 2024 (arXiv
2303.15991). Client: the layers before its cut, which stay private, data. Server: one half. Of every batch the first
ceil(phi b) samples are aggregated: the gradients of their losses at the logits are averaged over the clients by n_k / n
and propagated back once instead of K times: phi b + K (1 - phi) b samples instead of K b.
Sent: E n_k (q s + l) up per client and round; down, per step, phi b q s once for all and (1 - phi) b q s to each.
phi = 0 equals PSL without client sync to the bit.

Differs from the paper, or interprets it: an averaged gradient is propagated back at the clients' mean smashed data,
which the server passes forward for that. If batches differ in size, phi applies to the smallest one. Clients with
different cuts are aggregated separately. Cut and radio resources stay as configured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeai.fedsplit.config.split import EPSLConfig
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.split.psl import LockStep, by_cut, merged_step
from edgeai.fedsplit.methods.split.shared_gradient import SharedGradientClient, broadcast, refuse_dp_sgd, shared_mean
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Reply, Request


@dataclass
class Group:
    """One step's batches of the clients with the same cut.

    Legend: b_k samples of client k, m of them aggregated.
    """

    position: int
    clients: list[int]
    z: list[Tensor]
    """Smashed data of each client, [b_k, ...]."""
    y: list[Tensor]
    shares: list[float]
    num_shared: int
    """Number of aggregated samples per client, m."""
    mean_z: Tensor
    """Mean smashed data of the aggregated samples, [m, ...], a leaf."""
    rest_z: Tensor
    """Smashed data of the other samples, [sum(b_k - m), ...], a leaf."""


class EPSL(LockStep):
    """Lock-step split learning with aggregated last-layer gradients."""

    cfg: EPSLConfig
    client_half = SharedGradientClient

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if self.cfg.aggregate_frac > 0:
            refuse_dp_sgd(setup)

    def answer(self, rnd: Round, server: ServerHalf, replies: Mapping[int, Reply]) -> dict[int, Request]:
        """Train the server half; broadcast the aggregated gradients and send each client the rest of its own."""
        if self.cfg.aggregate_frac == 0:
            return merged_step(rnd, self.setup, server, replies, rescale=True)
        groups = [self.group(position, clients, replies) for position, clients in by_cut(self.setup, replies).items()]
        total = sum(len(y) for group in groups for y in group.y)
        rnd.loss.add(step(server, groups, total), total)
        flops = sum(flops_of(server, group) for group in groups)
        done_s = rnd.server.work(flops, max(reply.at_s for reply in replies.values()))
        requests: dict[int, Request] = {}
        for group in groups:
            requests |= send(rnd, group, total, done_s)
        return {client: requests[client] for client in replies}

    def group(self, position: int, clients: list[int], replies: Mapping[int, Reply]) -> Group:
        """Split the batches into aggregated samples and the rest."""
        z = [replies[client].message.activations["z"] for client in clients]
        y = [replies[client].message.labels["y"] for client in clients]
        shares = self.setup.shares(clients)
        num = math.ceil(self.cfg.aggregate_frac * min(map(len, z)))
        mean_z = shared_mean(z, shares, num).requires_grad_()
        rest_z = torch.cat([one[num:] for one in z]).requires_grad_()
        return Group(position, clients, z, y, shares, num, mean_z, rest_z)


def step(server: ServerHalf, groups: list[Group], total: int) -> Tensor:
    """Fill the gradients of the leaves and take an optimizer step.

    Aggregation does not change the weight of a sample: each mean counts for K of the `total` samples.

    Returns:
        Mean loss over all samples.
    """
    server.optim.zero_grad()
    outputs, gradients, loss_sum = [], [], torch.zeros(())
    for group in groups:
        tail, num = server.tail(group.position), group.num_shared
        logits, labels = tail(group.rest_z), torch.cat([y[num:] for y in group.y])
        rest_loss = F.cross_entropy(logits, labels, reduction="sum")
        by_logits = []
        for z, y in zip(group.z, group.y, strict=True):
            with torch.no_grad():
                client_logits = tail(z[:num])
                loss_sum = loss_sum + F.cross_entropy(client_logits, y[:num], reduction="sum")
                by_logits.append(client_logits.softmax(1) - F.one_hot(y[:num], client_logits.shape[1]))
        loss_sum = loss_sum + rest_loss.detach()
        outputs += [tail(group.mean_z), rest_loss / total]
        gradients += [shared_mean(by_logits, group.shares, num) * (len(group.clients) / total), None]
    torch.autograd.backward(outputs, gradients)
    server.optim.step()
    return loss_sum / total


def send(rnd: Round, group: Group, total: int, done_s: float) -> dict[int, Request]:
    """Broadcast the aggregated rows to a group, and return the requests with the other rows."""
    assert group.mean_z.grad is not None
    assert group.rest_z.grad is not None
    there_s = broadcast(rnd, group.clients, group.mean_z.grad * (total / len(group.clients)), done_s)
    sizes = [len(z) - group.num_shared for z in group.z]
    requests: dict[int, Request] = {}
    for client, z, rows in zip(group.clients, group.z, group.rest_z.grad.split(sizes), strict=True):
        if len(rows):
            requests[client] = Request(Message(gradients={"z": rows * (total / len(z))}), done_s)
        else:
            requests[client] = Request(at_s=there_s[client])
    return requests


def flops_of(server: ServerHalf, group: Group) -> float:
    """Return the FLOPs of a step: all samples and the means forward, the means and the rest backward."""
    cost = server.cost(group.position)
    num_samples = sum(map(len, group.z))
    num_forward, num_backward = num_samples + group.num_shared, len(group.rest_z) + group.num_shared
    return num_forward * cost.forward_flops + num_backward * cost.backward_flops
