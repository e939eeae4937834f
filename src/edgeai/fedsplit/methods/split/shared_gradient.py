"""One gradient for several clients: broadcast once, charged once, used by each on its own layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from edgeai.core.errors import UsageError
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.protocol.client_half import ClientContext, PrivateClient
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.part import Part
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.transport import Request


class SharedGradientClient(PrivateClient):
    """`share` takes gradients of one sample's loss each, [m, ...], for the first m samples of the pending batch.

    Of a shorter batch only so many count. What `step` brings is for the samples behind them.
    """

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        super().__init__(context, parts)
        self._shared: Tensor | None = None

    def on_share(self, message: Message) -> None:
        """Keeps it until the next step."""
        self._shared = message.gradients["shared"]

    def apply(self, message: Message) -> None:
        """Steps on both; the loss is the mean over the own batch."""
        if self._shared is not None:
            assert self.pending is not None, "a gradient came before any activation was sent"
            num_samples = len(self.pending.z)
            gradient = self._shared[:num_samples] / num_samples
            if "z" in message.gradients:
                gradient = torch.cat([gradient, message.gradients["z"]])
            message, self._shared = Message(gradients={"z": gradient}), None
        super().apply(message)


def refuse_dp_sgd(setup: Setup) -> None:
    """A gradient that is a mean over samples cannot be clipped by sample.

    Raises:
        UsageError: Somebody wants that.
    """
    if setup.cfg.privacy.dp_sgd is not None:
        raise UsageError(
            f"privacy.dp_sgd bounds what one sample does to the client part, but method {setup.cfg.method.kind} gives "
            "every sample a gradient that others had a share in",
            hint="leave privacy.dp_sgd empty, or choose method psl",
        )


def broadcast(rnd: Round, clients: Sequence[int], gradient: Tensor, at_s: float) -> dict[int, float]:
    """Sends the same gradient to several clients; the first one's link is charged.

    Returns:
        When each has it.
    """
    message = Message(gradients={"shared": gradient})
    requests = {client: Request(message, at_s, is_copy=number > 0) for number, client in enumerate(clients)}
    return rnd.tell("share", requests)


def shared_mean(gradients: Sequence[Tensor], shares: Sequence[float], num_rows: int) -> Tensor:
    """Row by row the weighted mean over those clients that have that row, [num_rows, ...].

    Args:
        gradients: [b_k, ...] of each client.
        shares: Of each client; where one has run out of rows, the others' shares make up for it.
        num_rows: So many rows.
    """
    total = gradients[0].new_zeros((num_rows, *gradients[0].shape[1:]))
    weight = gradients[0].new_zeros((num_rows, *[1] * (gradients[0].ndim - 1)))
    for gradient, share in zip(gradients, shares, strict=True):
        rows = min(num_rows, len(gradient))
        total[:rows] += share * gradient[:rows]
        weight[:rows] += share
    return total / weight
