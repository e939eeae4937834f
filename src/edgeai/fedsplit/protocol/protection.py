"""Interface of the privacy protection that a client applies before data leave the device.

x [b, ...] samples, y [b] labels, z [b, ...] smashed data at the cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

SampleLoss = Callable[[Tensor, Tensor], Tensor]
"""From (x_i [1, ...], z_i [1, ...]) to the loss of one sample."""


class Protection(Protocol):
    """Protection of one client."""

    @property
    def is_dp(self) -> bool:
        """Whether `client_gradients` must compute the gradients of the client part (DP-SGD)."""

    def labels(self, indices: Tensor, y: Tensor) -> Tensor:
        """Return the labels to use and send for the samples at `indices` [b], whose true labels are `y`."""

    def smashed(self, z: Tensor, *, training: bool = True) -> Tensor:
        """Return the tensor to send in place of `z`. Differentiable."""

    def extra_loss(self, x: Tensor, z: Tensor) -> Tensor | None:
        """Return a loss that the client adds to its own, or None."""

    def client_gradients(self, part: nn.Module, x: Tensor, g_z: Tensor, extra: SampleLoss | None = None) -> None:
        """Fill .grad of the client part with private gradients, given the gradient `g_z` at the cut."""
