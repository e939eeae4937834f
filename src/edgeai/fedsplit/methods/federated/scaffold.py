"""SCAFFOLD: FedAvg with control variates that correct each client's gradient for client drift.

Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020, algorithm 1, option
II.
Client: all layers, data, labels, and its control variate c_i, which it keeps. Server: the model and the mean variate c.
Sent per client and round: the model and c down, the model and the change of c_i up: 2 N s each way.

A step is w -= lr (g - c_i + c). After K steps from x to y a client sets c_i+ = c_i - c + (x - y) / (K lr), which is the
mean of its gradients. The server moves x by server_lr times the mean of y - x, and c by the changes of c_i.

Differs from the paper: clients are weighted by n_k / n, for x among those in time and for c among all, where the paper
weights them equally; with equal clients both agree. A client whose reply was late restores its old c_i on its next
request, so that c is always the mean of the c_i.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.federated import ScaffoldConfig
from edgeai.fedsplit.cuts.weights import Weights, average, clone
from edgeai.fedsplit.methods.federated.fedavg import FedAvg, FullClient
from edgeai.fedsplit.methods.federated.fedopt import zeros_like
from edgeai.fedsplit.methods.method import weights_of
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.weight_tags import model_weights, tagged, untagged
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.part import training_bytes
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.transport import Reply

VARIATE = "variate"
"""Weight tag of control variates."""
_NEW, _OLD = "new", "old"  # tags of kept state: variate after the last round, and the one before


class ScaffoldClient(FullClient):
    """Corrects its gradients and keeps its control variate."""

    def begin(self, message: Message) -> None:
        """Load the weights, the mean variate and the device's own variate."""
        self.load("model", model_weights(message.weights))
        self.common = untagged(VARIATE, message.weights)
        self.own = untagged(_NEW if message.options["counted"] else _OLD, self.kept) or zeros_like(self.common)
        self.named = {name: w for name, w in self.parts["model"].module.named_parameters() if name in self.common}
        self.start = clone(self.named)

    def correct(self) -> None:
        """Add c - c_i to the gradients."""
        for name, weight in self.named.items():
            if weight.grad is not None:
                weight.grad.add_(self.common[name] - self.own[name])

    def answer(self, message: Message) -> Message:
        """Return the weights and the change of the own variate (option II)."""
        distance = self.num_batches * self.context.optim.lr
        change = {
            name: (self.start[name] - weight.detach()) / distance - self.common[name]
            for name, weight in self.named.items()
        }
        new = {name: self.own[name] + value for name, value in change.items()}
        self.kept = {**tagged(_OLD, self.own), **tagged(_NEW, new)}
        return replace(message, weights={**message.weights, **tagged(VARIATE, change)})


class Scaffold(FedAvg):
    """FedAvg with control variates."""

    cfg: ScaffoldConfig
    client_half = ScaffoldClient

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        optim = setup.cfg.optim
        if optim.kind != "sgd" or optim.momentum:
            kind = optim.kind if optim.kind != "sgd" else f"sgd with momentum {optim.momentum:g}"
            raise UsageError(
                f"scaffold derives mean gradients from plain SGD steps, but optim is {kind}",
                hint="set optim.kind to sgd and optim.momentum to 0",
            )
        trainable = {name: w for name, w in self.global_model.model.named_parameters() if w.requires_grad}
        self.variate: Weights = zeros_like(trainable)
        self.counted: set[int] = set()
        """Clients whose last reply counted."""

    def send(self, client: int) -> Message:
        """Return the model, the mean variate, and whether the last reply counted."""
        weights = {**self.global_model.weights(), **tagged(VARIATE, self.variate)}
        return Message(weights=weights, options={"counted": client in self.counted})

    def round(self, rnd: Round) -> None:
        """Run a FedAvg round and record whose reply was late."""
        super().round(rnd)
        self.counted = (self.counted | set(rnd.clients)) - rnd.late

    def hold(self, rnd: Round, num_models: int) -> None:
        """Record the server's memory, including the variates."""
        cost = self.setup.model.cost(0, len(self.setup.model))
        both_bytes = cost.weight_bytes + 4 * cost.num_trainable
        rnd.server.hold(training_bytes(cost, self.setup.cfg.optim) + 4 * cost.num_trainable + num_models * both_bytes)

    @torch.no_grad()
    def aggregate(self, replies: dict[int, Reply]) -> None:
        """Update the model and the mean variate."""
        clients = list(replies)
        answers = weights_of(replies)
        mean = average([model_weights(answer) for answer in answers], self.setup.shares(clients))
        if self.cfg.server_lr != 1:
            mean |= self.scaled(mean)
        self.global_model.load(mean)
        total = sum(self.setup.num_samples)
        for client, answer in zip(clients, answers, strict=True):
            for name, change in untagged(VARIATE, answer).items():
                self.variate[name] = self.variate[name] + change * (self.setup.num_samples[client] / total)

    def scaled(self, mean: Mapping[str, Tensor]) -> Weights:
        """Return the trainable weights moved by server_lr times their mean update."""
        now = self.global_model.weights()
        return {name: now[name] + self.cfg.server_lr * (mean[name] - now[name]) for name in self.variate}

    def extra(self) -> dict[str, Any]:
        """Return the mean variate and the clients whose last reply counted."""
        return {"variate": clone(self.variate), "counted": sorted(self.counted)}

    def load_extra(self, extra: dict[str, Any]) -> None:
        """Restore what `extra` returned."""
        self.variate, self.counted = clone(extra["variate"]), set(extra["counted"])
