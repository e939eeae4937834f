"""A gradient shared by several clients: broadcast and charged once, applied by each client to its own layers."""

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
    """`share` takes per-sample gradients [m, ...] for the first m samples of the pending batch.

    A shorter batch uses only its first rows. The gradient of `step` is for the remaining samples.
    """

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        super().__init__(context, parts)
        self._shared: Tensor | None = None

    def on_share(self, message: Message) -> None:
        """Keep the shared gradient until the next step."""
        self._shared = message.gradients["shared"]

    def apply(self, message: Message) -> None:
        """Train on both gradients; the loss is the mean over the own batch."""
        if self._shared is not None:
            assert self.pending is not None, "a gradient was received before any activation was sent"
            num_samples = len(self.pending.z)
            gradient = self._shared[:num_samples] / num_samples
            if "z" in message.gradients:
                gradient = torch.cat([gradient, message.gradients["z"]])
            message, self._shared = Message(gradients={"z": gradient}), None
        super().apply(message)


def refuse_dp_sgd(setup: Setup) -> None:
    """Reject DP-SGD: a gradient that is a mean over samples cannot be clipped per sample.

    Raises:
        UsageError: The config asks for DP-SGD.
    """
    if setup.cfg.privacy.dp_sgd is not None:
        raise UsageError(
            f"privacy.dp_sgd bounds each sample's effect on the client part, but method {setup.cfg.method.kind} gives "
            "every sample a gradient that depends on other samples",
            hint="leave privacy.dp_sgd empty, or choose method psl",
        )


def broadcast(rnd: Round, clients: Sequence[int], gradient: Tensor, at_s: float) -> dict[int, float]:
    """Send the same gradient to several clients; only the first client's link is charged.

    Returns:
        Arrival time at each client.
    """
    message = Message(gradients={"shared": gradient})
    requests = {client: Request(message, at_s, is_copy=number > 0) for number, client in enumerate(clients)}
    return rnd.tell("share", requests)


def shared_mean(gradients: Sequence[Tensor], shares: Sequence[float], num_rows: int) -> Tensor:
    """Return the weighted mean over clients, row by row, [num_rows, ...].

    Args:
        gradients: Gradient of each client, [b_k, ...].
        shares: Weight of each client. In rows that a client lacks, the other weights are renormalized.
        num_rows: Number of rows of the result.
    """
    total = gradients[0].new_zeros((num_rows, *gradients[0].shape[1:]))
    weight = gradients[0].new_zeros((num_rows, *[1] * (gradients[0].ndim - 1)))
    for gradient, share in zip(gradients, shares, strict=True):
        rows = min(num_rows, len(gradient))
        total[:rows] += share * gradient[:rows]
        weight[:rows] += share
    return total / weight
