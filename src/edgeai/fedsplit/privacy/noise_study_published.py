"""The published table of SplitNN on MNIST under Laplace noise and NoPeek, and the nets behind it.

Source: TTitcombe/Model-Inversion-SplitNN, the CSV files in results/quantitative_measures and src/dpsnn.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Published:
    """A row of the published table; None where it has no number."""

    val_acc: float | None = None
    dcor: float | None = None
    attack_dcor: float | None = None
    attack_acc: float | None = None


PUBLISHED: dict[tuple[float, float], Published] = {
    (0.0, 0.1): Published(None, None, 0.828, 0.952),
    (0.0, 0.5): Published(None, None, 0.748, 0.967),
    (0.0, 1.0): Published(None, None, 0.717, 0.972),
    (0.1, 0.0): Published(None, None, 0.945, 0.958),
    (0.1, 0.1): Published(0.9784, 0.474, 0.841, 0.9488),
    (0.1, 0.25): Published(0.9802, 0.437, 0.780, 0.9594),
    (0.1, 0.5): Published(0.9800, 0.411, 0.742, 0.9710),
    (0.2, 0.1): Published(0.9798, 0.491, 0.835, 0.9394),
    (0.2, 0.25): Published(0.9820, 0.450, 0.774, 0.9694),
    (0.2, 0.5): Published(0.9746, 0.411, 0.761, 0.9648),
    (0.5, 0.0): Published(None, None, 0.939, 0.957),
    (0.5, 0.05): Published(0.9786, 0.674, 0.912, 0.9470),
    (0.5, 0.1): Published(0.9752, 0.525, 0.854, 0.9328),
    (0.5, 0.25): Published(0.9776, 0.442, 0.781, 0.9662),
    (0.5, 0.5): Published(0.9738, 0.437, 0.773, 0.9672),
    (1.0, 0.0): Published(None, None, 0.928, 0.951),
    (1.0, 0.1): Published(0.9754, 0.575),
    (1.0, 0.25): Published(0.9742, 0.500),
    (1.0, 0.5): Published(0.9678, 0.452),
}
"""(noise scale, lam) to the published numbers; accuracies as fractions."""


def build_client_part() -> nn.Sequential:
    """The published client part without its tanh, which `Protect` applies: 28 x 28 to 500."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(9216, 500),
    )


def build_server_part() -> nn.Sequential:
    """The published server part, with the softmax that the cross-entropy takes once more."""
    return nn.Sequential(nn.Linear(500, 128), nn.ReLU(), nn.Linear(128, 10), nn.Softmax(dim=1))


def build_deconv() -> nn.Sequential:
    """The published decoder: four transposed convolutions without nonlinearities, so an affine map."""
    return nn.Sequential(
        nn.Linear(500, 9216),
        nn.Unflatten(1, (64, 12, 12)),
        nn.ConvTranspose2d(64, 64, 3, stride=2, padding=1, output_padding=1),
        nn.ConvTranspose2d(64, 32, 3, padding=1),
        nn.ConvTranspose2d(32, 8, 3),
        nn.ConvTranspose2d(8, 1, 3),
    )
