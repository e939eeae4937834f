"""FSL-SAGE: local heads, fitted by the server to estimate its own gradient at the cut.

Nair et al., "FSL-SAGE: Accelerating Federated Split Learning via Smashed Activation Gradient Estimation", ICML 2025.

Client: the layers before its cut, a head that it does not train, data. Server: the layers behind the cut, a copy of
each client's head, the newest smashed data of each client. A client trains on d CE(head(z), y) / dz; every
`align_every` rounds, from the first on, the server fits each head so that this approximates d CE(server(z), y) / dz on
the stored smashed data. Sent per client and round, with a bytes of head: E n_k (q s + l) / h up at the cut and nothing
down; the client part both ways; a down in the client's first round after a fit.

Differs from the paper: gradients are fitted per sample (of the sum over a batch, not its mean), so that the fit does
not depend on the batch size; every fit starts a new Adam and makes full passes over the stored data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from edgeai.fedsplit.config.hybrid import FSLSageConfig
from edgeai.fedsplit.cuts.weights import Weights, clone
from edgeai.fedsplit.methods.auxiliary_nets import HEAD, copy_part
from edgeai.fedsplit.methods.cut_gradients import gradient_at
from edgeai.fedsplit.methods.hybrid.local_loss import Decoupled, LocalLossClient
from edgeai.fedsplit.methods.method import Method
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.weight_exchange import average_whole_models, server_weights
from edgeai.fedsplit.methods.weight_tags import model_weights, tagged, untagged
from edgeai.fedsplit.protocol.client_half import ClientContext
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.part import Part
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Reply


class SageClient(LocalLossClient):
    """Trains the layers before the cut only, with a head that the server fits."""

    trained = ("client",)

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        super().__init__(context, parts)
        if self.kept:
            self.load("head", untagged(HEAD, self.kept))

    def take(self, message: Message) -> None:
        """Load the layers, and the head if the message has one."""
        self.load("client", model_weights(message.weights))
        if head := untagged(HEAD, message.weights):
            self.load("head", head)
            self.kept = tagged(HEAD, self.weights("head"))

    def result(self) -> dict[str, Tensor]:
        """Return the layers only."""
        return self.weights("client")

    def local_gradient(self, z: Tensor, y: Tensor) -> Tensor:
        """Return the head's estimate of the server's gradient."""
        leaf = z.detach().requires_grad_()
        [gradient] = torch.autograd.grad(self.local_loss(leaf, y), leaf)
        return gradient


class Seen(NamedTuple):
    """Stored smashed data z [n, ...] and labels y [n] of one client."""

    z: Tensor
    y: Tensor


class FSLSage(Decoupled):
    """Local training with heads that estimate the server's gradient."""

    cfg: FSLSageConfig
    client_half = SageClient

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.fitted: dict[int, Weights] = {}
        """Weights of the fitted heads, by client."""
        self.seen: dict[int, Seen] = {}
        """Newest smashed data and labels of each client."""
        self.unsent: set[int] = set()
        """Clients that have not received their newest head."""

    @property
    def every(self) -> int:
        """Upload interval in batches, h."""
        return self.cfg.h

    def modules(self) -> Mapping[str, nn.Module]:
        """Return the model; the heads are in `extra`."""
        return Method.modules(self)

    def extra(self) -> dict[str, Any]:
        """Return the heads, the data to fit them on, and the clients that lack the newest head."""
        seen = {client: list(pair) for client, pair in self.seen.items()}
        return {"fitted": self.fitted, "seen": seen, "unsent": sorted(self.unsent)}

    def load_extra(self, extra: dict[str, Any]) -> None:
        """Restore what `extra` returned."""
        self.fitted = extra["fitted"]
        self.seen = {client: Seen(z, y) for client, (z, y) in extra["seen"].items()}
        self.unsent = set(extra["unsent"])

    def warnings(self) -> tuple[str, ...]:
        """Return no warnings: devices train no head."""
        return ()

    def round(self, rnd: Round) -> None:
        """Run a local-loss round; every `align_every` rounds, fit the heads."""
        super().round(rnd)
        num_bytes = sum(z.numel() * z.element_size() + y.numel() * y.element_size() for z, y in self.seen.values())
        half = ServerHalf(self.global_model, self.setup.first, self.setup.cfg.optim)
        rnd.server.hold(half.memory_bytes(self.setup.cfg.batch) + num_bytes)
        if (rnd.number - 1) % self.cfg.align_every == 0:
            errors = [self.align(rnd, half, client) for client in rnd.clients if client in self.seen]
            if errors:
                rnd.notes["gradient_error"] = sum(errors) / len(errors)

    def send(self, client: int) -> Message:
        """Return the layers, and the head if the client lacks the newest."""
        weights = self.global_model.weights(0, self.setup.positions[client])
        if client in self.unsent:
            self.unsent.remove(client)
            weights |= tagged(HEAD, self.fitted[client])
        return Message(weights=weights, options={"every": self.every})

    def served(self, rnd: Round, reply: Reply) -> None:
        """Store the newest smashed data."""
        z, y = reply.message.activations["z"].detach(), reply.message.labels["y"]
        if reply.client in self.seen:
            before = self.seen[reply.client]
            z, y = torch.cat([before.z, z]), torch.cat([before.y, y])
        self.seen[reply.client] = Seen(z[-self.cfg.remember :], y[-self.cfg.remember :])

    def aggregate(self, replies: Mapping[int, Reply], servers: Mapping[int, ServerHalf]) -> None:
        """Average the client parts; heads are personal."""
        self.global_model.load(average_whole_models(self.setup, replies, server_weights(servers)))

    def align(self, rnd: Round, half: ServerHalf, client: int) -> float:
        """Fit one client's head.

        Returns:
            Squared error of the estimated gradients after the fit, relative to the squared norm of the true ones.
        """
        position = self.setup.positions[client]
        z, y = self.seen[client]
        target = gradient_at(half.tail(position), z, y)
        head = copy_part(self.heads[position])
        if client in self.fitted:
            head.module.load_state_dict(self.fitted[client])
        optim = torch.optim.Adam(head.module.parameters(), lr=self.cfg.align_lr)
        for _ in range(self.cfg.align_steps):
            optim.zero_grad()
            (_squared_error(head.module, z, y, target) / len(z)).backward()
            optim.step()
        self.fitted[client] = clone(head.module.state_dict())
        self.unsent.add(client)
        passes = 2 * self.cfg.align_steps  # the gradient, and the gradient of its error
        flops = len(z) * (half.cost(position).train_flops + passes * head.cost.train_flops)
        rnd.server.work(flops, rnd.server.end_s, label="align")
        return float(_squared_error(head.module, z, y, target).detach() / target.square().sum())


def _squared_error(head: nn.Module, z: Tensor, y: Tensor, target: Tensor) -> Tensor:
    return (gradient_at(head, z, y, create_graph=True) - target).square().sum()
