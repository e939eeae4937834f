"""FedProx: FedAvg with a proximal term that keeps clients close to the global model.

Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, algorithm 2. A client minimizes its loss plus
mu/2 ||w - w_t||^2, where w_t are the weights it received. Roles and traffic: as in FedAvg.

Differs from the paper: all clients take the same number of local steps, where the paper lets each client stop at its
own inexactness; clients are averaged by n_k / n, where the paper samples them with that probability.
"""

from __future__ import annotations

from edgeai.fedsplit.config.federated import FedProxConfig
from edgeai.fedsplit.methods.federated.fedavg import FedAvg, FullClient
from edgeai.fedsplit.protocol.message import Message


class ProximalClient(FullClient):
    """Adds the gradient of the proximal term, mu (w - w_t), which uses no data and so needs no protection."""

    def begin(self, message: Message) -> None:
        """Load the weights and remember them as w_t."""
        super().begin(message)
        self.mu = message.number("mu")
        self.origin = [weight.detach().clone() for weight in self.parts["model"].module.parameters()]

    def correct(self) -> None:
        """Add the gradient of the proximal term."""
        for weight, origin in zip(self.parts["model"].module.parameters(), self.origin, strict=True):
            if weight.grad is not None:
                weight.grad.add_(weight.detach() - origin, alpha=self.mu)


class FedProx(FedAvg):
    """FedAvg with a proximal term."""

    cfg: FedProxConfig
    client_half = ProximalClient

    def send(self, client: int) -> Message:
        """Return the weights and mu."""
        return Message(weights=self.global_model.weights(), options={"mu": self.cfg.mu})
