"""FedSGD: a client sends the gradient of its mean loss over all its samples; the server steps on their mean.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017, section 2.
Client: all layers, data, labels. Server: the model and its optimizer, whose state lasts from round to round.
Crosses, per client and round: N s bytes down; a gradient for each trainable weight up, and the buffers as they are.

A gradient is computed batch by batch, which changes nothing but the memory it takes: a mean over all samples is the
mean over batches by b / n_k. With BatchNorm the batches do count; the buffers are averaged like FedAvg's.
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
    """Computes one gradient and takes no step."""

    def on_train(self, message: Message) -> Message:
        """Takes over the weights and answers with the gradient there."""
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
    """See the head of this file."""

    client_half = GradientClient

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if setup.cfg.local_epochs != 1:
            raise UsageError(
                f"fedsgd takes one gradient a round, and local_epochs is {setup.cfg.local_epochs}",
                hint="set local_epochs to 1, or use fedavg",
            )
        self.optim = build_optimizer(self.global_model.model.parameters(), setup.cfg.optim)

    def aggregate(self, replies: dict[int, Reply]) -> None:
        """One step on the mean gradient."""
        mean = average(weights_of(replies), self.setup.shares(list(replies)))
        for name, weight in self.global_model.model.named_parameters():
            weight.grad = mean.pop(name, None)
        self.optim.step()
        self.global_model.load(mean)  # what is left: buffers

    def extra(self) -> dict[str, Any]:
        """The optimizer's state."""
        return {"optim": copy.deepcopy(self.optim.state_dict())}

    def load_extra(self, extra: dict[str, Any]) -> None:
        """Puts it back."""
        self.optim.load_state_dict(extra["optim"])
