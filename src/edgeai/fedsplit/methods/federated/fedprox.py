"""FedProx: FedAvg whose clients are pulled back to where they began.

Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, algorithm 2. A client minimises its loss plus
mu/2 ||w - w_t||^2, w_t being the weights that came down. Who holds what, and what crosses: as in FedAvg.

Differs from the paper: everyone does the same number of local steps, where the paper lets each client stop at an
inexactness of its own; clients are averaged by n_k / n, where the paper draws them with that probability.
"""

from __future__ import annotations

from edgeai.fedsplit.config.federated import FedProxConfig
from edgeai.fedsplit.methods.federated.fedavg import FedAvg, FullClient
from edgeai.fedsplit.protocol.message import Message


class ProximalClient(FullClient):
    """Adds the term's gradient, mu (w - w_t), which needs no data and so no protection."""

    def begin(self, message: Message) -> None:
        """Remembers where it began."""
        super().begin(message)
        self.mu = float(message.options["mu"])  # type: ignore[arg-type]
        self.origin = [weight.detach().clone() for weight in self.parts["model"].module.parameters()]

    def correct(self) -> None:
        """Adds the gradient of the proximal term."""
        for weight, origin in zip(self.parts["model"].module.parameters(), self.origin, strict=True):
            if weight.grad is not None:
                weight.grad.add_(weight.detach() - origin, alpha=self.mu)


class FedProx(FedAvg):
    """See the head of this file."""

    cfg: FedProxConfig
    client_half = ProximalClient

    def send(self, client: int) -> Message:
        """The weights, and how strong the pull is."""
        return Message(weights=self.global_model.weights(), options={"mu": self.cfg.mu})
