"""The server half of a model: the layers behind the cut, with their optimizer.

y [b] labels, z [b, ...] smashed data at the cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.fedsplit.config.optim import OptimConfig
from edgeai.fedsplit.cuts.part_cost import PartCost
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.cuts.weights import Weights
from edgeai.fedsplit.protocol.part import build_optimizer, training_bytes


@dataclass(frozen=True)
class Step:
    """Result of one training step of the server half."""

    loss: Tensor
    """Mean over the batch, detached."""
    gradients: Mapping[int, Tensor]
    """Gradient of that mean at each cut, by the cut's position."""
    flops: float

    @property
    def gradient(self) -> Tensor:
        """The gradient of a step with a single cut."""
        [gradient] = self.gradients.values()
        return gradient


class ServerHalf:
    """The layers behind the cut, with their optimizer. One half can serve several cuts.

    Args:
        model: Whole model. This half trains its layers behind the cuts in place.
        first: Position of the shallowest cut.
        optim: Optimizer of the layers behind `first`.
        lr_scale: Factor on the learning rate.
    """

    def __init__(self, model: SplitModel, first: int, optim: OptimConfig, *, lr_scale: float = 1.0) -> None:
        self.model, self.first = model, first
        self._tails: dict[int, nn.Sequential] = {}
        self.optim = build_optimizer(self.tail(first).parameters(), optim, lr_scale=lr_scale)
        self._optim_cfg = optim

    def tail(self, position: int) -> nn.Sequential:
        """Return the layers behind a cut."""
        if position not in self._tails:
            self._tails[position] = self.model.part(position, len(self.model))
        return self._tails[position]

    def cost(self, position: int) -> PartCost:
        """Return the cost of the layers behind a cut."""
        return self.model.cost(position, len(self.model))

    def memory_bytes(self, num_samples: int) -> int:
        """Return the training memory of the half, with the tensors that autograd saves for `num_samples` samples."""
        cost = self.cost(self.first)
        return training_bytes(cost, self._optim_cfg) + round(num_samples * cost.saved_bytes)

    def step(self, position: int, z: Tensor, y: Tensor) -> Step:
        """Run forward, loss, backward and an optimizer step on one batch (Vepakomma et al. 2018).

        Args:
            position: Position of the client's cut.
            z: Smashed data as received, [b, ...].
            y: Labels, [b].
        """
        return self.step_merged({position: z}, {position: y})

    def step_merged(self, inputs: Mapping[int, Tensor], labels: Mapping[int, Tensor]) -> Step:
        """Train one step on a merged batch whose samples enter at several cuts.

        Args:
            inputs: z [b_p, ...] by position of the cut.
            labels: y [b_p] by position of the cut.
        """
        leaves = {position: z.detach().requires_grad_() for position, z in inputs.items()}
        self.optim.zero_grad()
        logits = [self.tail(position)(z) for position, z in leaves.items()]
        loss = F.cross_entropy(logits[0] if len(logits) == 1 else torch.cat(logits), torch.cat(list(labels.values())))
        loss.backward()
        self.optim.step()
        flops = sum(len(z) * self.cost(position).train_flops for position, z in leaves.items())
        gradients = {position: z.grad for position, z in leaves.items() if z.grad is not None}
        return Step(loss.detach(), gradients, flops)

    def weights(self) -> Weights:
        """Return the weights behind the shallowest cut, not copied."""
        return self.model.weights(self.first)
