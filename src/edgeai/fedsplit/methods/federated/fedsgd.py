"""FedSGD: each client sends the gradient of its mean loss; the server takes a step on their mean.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017, section 2.
Client: all layers, data, labels. Server: the model and its optimizer, whose state is kept across rounds.
Sent per client and round: N s bytes down; the gradient of each trainable weight and the buffers up.

The gradient is computed batch by batch, which changes only the memory: the mean over all samples is the mean over
batches weighted by b / n_k. With BatchNorm the batches matter; the buffers are averaged as in FedAvg.
"""

from __future__ import annotations

import copy
from typing import Any

import torch

from edgeai.core.errors import UsageError
from edgeai.fedsplit.cuts.weights import average
from edgeai.fedsplit.methods.federated.fedavg import FedAvg, FullClient
from edgeai.fedsplit.methods.method import weights_of
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.part import build_optimizer
from edgeai.fedsplit.protocol.transport import Reply


class GradientClient(FullClient):
    """Computes one gradient without a step."""

    def on_train(self, message: Message) -> Message:
        """Load the weights and answer with the gradient at them."""
        self.begin(message)
        module = self.parts["model"].module
        named = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        totals = {name: torch.zeros_like(weight) for name, weight in named.items()}
        loss = 0.0
        for _, x, y in self.batches():
            module.zero_grad()
            share = len(x) / len(self.context.samples)
            loss += float(self.backward_loss(x, y)) * share
            for name, weight in named.items():
                if weight.grad is not None:
                    totals[name].add_(weight.grad, alpha=share)
        parameters = {name for name, _ in module.named_parameters()}
        buffers = {name: value for name, value in self.weights("model").items() if name not in parameters}
        return Message(weights={**totals, **buffers}, options={"loss": loss})


class FedSGD(FedAvg):
    """One server step per round on the mean gradient."""

    client_half = GradientClient

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if setup.cfg.local_epochs != 1:
            raise UsageError(
                f"fedsgd takes one gradient per round, but local_epochs is {setup.cfg.local_epochs}",
                hint="set local_epochs to 1, or use fedavg",
            )
        self.optim = build_optimizer(self.global_model.model.parameters(), setup.cfg.optim)

    def aggregate(self, replies: dict[int, Reply]) -> None:
        """Take one step on the mean gradient."""
        mean = average(weights_of(replies), self.setup.shares(list(replies)))
        for name, weight in self.global_model.model.named_parameters():
            weight.grad = mean.pop(name, None)
        self.optim.step()
        self.global_model.load(mean)  # the buffers

    def extra(self) -> dict[str, Any]:
        """Return the optimizer state."""
        return {"optim": copy.deepcopy(self.optim.state_dict())}

    def load_extra(self, extra: dict[str, Any]) -> None:
        """Restore what `extra` returned."""
        self.optim.load_state_dict(extra["optim"])
