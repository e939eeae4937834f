"""FedAvgM and FedAdam: the clients' mean update is a gradient for an optimizer at the server.

FedAvgM: Hsu et al., "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification",
2019.
FedAdam: Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithm 2.
Client: as in FedAvg. Server: the model, and a momentum (and a variance) for each trainable weight, which last from
round to round. What crosses: as in FedAvg.

With d the mean over clients, by n_k / n, of what their weights moved:
FedAvgM: v = momentum v + d; w += server_lr v. With server_lr 1 and no momentum this is FedAvg up to rounding.
FedAdam: m = beta1 m + (1 - beta1) d; v = beta2 v + (1 - beta2) d^2, from tau^2 on; w += server_lr m / (sqrt(v) + tau).
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
    """What both share."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        trainable = {name: w for name, w in self.global_model.model.named_parameters() if w.requires_grad}
        self.slots: dict[str, Weights] = {"m": zeros_like(trainable)}
        """What the server's optimizer keeps, by what it is called in the paper."""

    def hold(self, rnd: Round, num_models: int) -> None:
        """The server's optimizer too."""
        cost = self.setup.model.cost(0, len(self.setup.model))
        slot_bytes = 4 * cost.num_trainable * len(self.slots)
        rnd.server.hold(training_bytes(cost, self.setup.cfg.optim) + num_models * cost.weight_bytes + slot_bytes)

    @torch.no_grad()
    def aggregate(self, replies: dict[int, Reply]) -> None:
        """Moves the trainable weights as the optimizer says, and sets the others."""
        mean = average(weights_of(replies), self.setup.shares(list(replies)))
        now = self.global_model.weights()
        for name in self.slots["m"]:
            mean[name] = now[name] + self.move(name, mean[name] - now[name])
        self.global_model.load(mean)

    @abstractmethod
    def move(self, name: str, delta: Tensor) -> Tensor:
        """How far a weight goes that moved by `delta` in the mean."""

    def extra(self) -> dict[str, Any]:
        """The optimizer's state."""
        return {name: clone(slot) for name, slot in self.slots.items()}

    def load_extra(self, extra: dict[str, Any]) -> None:
        """Puts it back."""
        self.slots = {name: clone(slot) for name, slot in extra.items()}


class FedAvgM(FedOpt):
    """Momentum at the server."""

    cfg: FedAvgMConfig

    def move(self, name: str, delta: Tensor) -> Tensor:
        """Momentum, from 0 on."""
        slot = self.slots["m"]
        slot[name] = self.cfg.momentum * slot[name] + delta
        return self.cfg.server_lr * slot[name]


class FedAdam(FedOpt):
    """Adam at the server."""

    cfg: FedAdamConfig

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.slots["v"] = {name: slot + self.cfg.tau**2 for name, slot in self.slots["m"].items()}

    def move(self, name: str, delta: Tensor) -> Tensor:
        """The mean and the spread of the updates so far, without a correction for their start."""
        m, v = self.slots["m"], self.slots["v"]
        m[name] = self.cfg.beta1 * m[name] + (1 - self.cfg.beta1) * delta
        v[name] = self.cfg.beta2 * v[name] + (1 - self.cfg.beta2) * delta.square()
        return self.cfg.server_lr * m[name] / (v[name].sqrt() + self.cfg.tau)


def zeros_like(weights: Mapping[str, Tensor]) -> Weights:
    """Zeros of the same shapes."""
    return {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}
