"""FedAvgM and FedAdam: the clients' mean update is the gradient of a server optimizer.

FedAvgM: Hsu et al., "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification",
2019.
FedAdam: Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithm 2.
Client: as in FedAvg. Server: the model, and a momentum (and a variance) for each trainable weight, kept across
rounds. Sent: as in FedAvg.

With d the mean update of the clients, weighted by n_k / n:
FedAvgM: v = momentum v + d; w += server_lr v. With server_lr 1 and no momentum this is FedAvg up to rounding.
FedAdam: m = beta1 m + (1 - beta1) d; v = beta2 v + (1 - beta2) d^2 with v_0 = tau^2;
w += server_lr m / (sqrt(v) + tau).
Buffers and frozen weights are averaged as in FedAvg.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edgeai.fedsplit.config.federated import FedAdamConfig, FedAvgMConfig
from edgeai.fedsplit.cuts.weights import Weights, average, clone
from edgeai.fedsplit.methods.federated.fedavg import FedAvg
from edgeai.fedsplit.methods.method import weights_of
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.protocol.part import training_bytes
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.transport import Reply


class FedOpt(FedAvg):
    """Federated averaging with a server optimizer."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        trainable = {name: w for name, w in self.global_model.model.named_parameters() if w.requires_grad}
        self.slots: dict[str, Weights] = {"m": zeros_like(trainable)}
        """State of the server optimizer by its symbol in the paper."""

    def hold(self, rnd: Round, num_models: int) -> None:
        """Record the server's memory, including the optimizer state."""
        cost = self.setup.model.cost(0, len(self.setup.model))
        slot_bytes = 4 * cost.num_trainable * len(self.slots)
        rnd.server.hold(training_bytes(cost, self.setup.cfg.optim) + num_models * cost.weight_bytes + slot_bytes)

    @torch.no_grad()
    def aggregate(self, replies: dict[int, Reply]) -> None:
        """Take an optimizer step on the trainable weights, and average the others."""
        mean = average(weights_of(replies), self.setup.shares(list(replies)))
        now = self.global_model.weights()
        for name in self.slots["m"]:
            mean[name] = now[name] + self.move(name, mean[name] - now[name])
        self.global_model.load(mean)

    @abstractmethod
    def move(self, name: str, delta: Tensor) -> Tensor:
        """Return the step of one weight.

        Args:
            name: Name of the weight.
            delta: Mean update of the clients.
        """

    def extra(self) -> dict[str, Any]:
        """Return the optimizer state."""
        return {name: clone(slot) for name, slot in self.slots.items()}

    def load_extra(self, extra: dict[str, Any]) -> None:
        """Restore what `extra` returned."""
        self.slots = {name: clone(slot) for name, slot in extra.items()}


class FedAvgM(FedOpt):
    """Server optimizer: SGD with momentum."""

    cfg: FedAvgMConfig

    def move(self, name: str, delta: Tensor) -> Tensor:
        """Return the momentum step; the momentum starts at 0."""
        slot = self.slots["m"]
        slot[name] = self.cfg.momentum * slot[name] + delta
        return self.cfg.server_lr * slot[name]


class FedAdam(FedOpt):
    """Server optimizer: Adam."""

    cfg: FedAdamConfig

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.slots["v"] = {name: slot + self.cfg.tau**2 for name, slot in self.slots["m"].items()}

    def move(self, name: str, delta: Tensor) -> Tensor:
        """Return the Adam step, without bias correction."""
        m, v = self.slots["m"], self.slots["v"]
        m[name] = self.cfg.beta1 * m[name] + (1 - self.cfg.beta1) * delta
        v[name] = self.cfg.beta2 * v[name] + (1 - self.cfg.beta2) * delta.square()
        return self.cfg.server_lr * m[name] / (v[name].sqrt() + self.cfg.tau)


def zeros_like(weights: Mapping[str, Tensor]) -> Weights:
    """Return zeros with the shapes of `weights`."""
    return {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}
