"""Inversion by a decoder, fitted on public samples and their smashed data (He et al. 2019).

Shapes: n samples, q values at the cut, p values of an input. z [n, ...], x [n, ...].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.privacy import DecoderConfig

Decoder = Callable[[Tensor], Tensor]
_RIDGES = (1e-9, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Candidate regularizations, relative to the mean variance at the cut; noisy smashed data need larger ones."""


def fit_decoder(z: Tensor, x: Tensor, cfg: DecoderConfig, *, seed: int) -> Decoder:
    """Return a decoder from z to x.

    Args:
        z: Sent data [n, ...] of public samples.
        x: Public samples [n, ...].
        cfg: Kind of decoder, its size and training.
        seed: Seed of initial weights and batches.

    Returns:
        A function from z [m, ...] to reconstructions [m, ...].

    Raises:
        UsageError: The decoder is convolutional but the inputs are not images.
    """
    if cfg.kind == "ridge":
        return fit_ridge(z, x)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = (_mlp if cfg.kind == "mlp" else _conv)(z, x, cfg.width).to(z.device)
    return train_decoder(net, z, x, num_steps=cfg.num_steps, batch=cfg.batch, lr=cfg.lr, seed=seed)


def fit_ridge(z: Tensor, x: Tensor) -> Decoder:
    """Return the affine least-squares decoder, its regularization chosen on a fifth of the samples."""
    flat_z, flat_x = z.detach().flatten(1).double(), x.detach().flatten(1).double()
    num_fit = max(1, len(flat_z) * 4 // 5)
    errors = []
    for ridge in _RIDGES:
        weight, bias = _solve(flat_z[:num_fit], flat_x[:num_fit], ridge)
        errors.append(float((flat_z[num_fit:] @ weight + bias - flat_x[num_fit:]).square().mean()))
    weight, bias = _solve(flat_z, flat_x, _RIDGES[errors.index(min(errors))])
    shape = x.shape[1:]

    def decode(z: Tensor) -> Tensor:
        return (z.detach().flatten(1).double() @ weight + bias).float().unflatten(1, shape)

    return decode


def train_decoder(net: nn.Module, z: Tensor, x: Tensor, *, num_steps: int, batch: int, lr: float, seed: int) -> Decoder:
    """Return a decoder trained with Adam on the mean squared error, over random batches.

    Args:
        net: Net from z to x; trained in place.
        z: Sent data [n, ...].
        x: Inputs [n, ...].
        num_steps: Number of training steps.
        batch: Batch size, at most n.
        lr: Learning rate.
        seed: Seed of the batches.
    """
    z, x = z.detach(), x.detach()
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(num_steps):
        rows = torch.randint(len(z), (min(batch, len(z)),), generator=generator)
        optimizer.zero_grad()
        F.mse_loss(net(z[rows]), x[rows]).backward()
        optimizer.step()
    net.eval()

    def decode(z: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([net(part) for part in z.detach().split(512)])

    return decode


def _solve(z: Tensor, x: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Return weight [q, p] and bias [p] of a ridge regression with intercept, by the smaller linear system."""
    mean_z, mean_x = z.mean(0), x.mean(0)
    z, x = z - mean_z, x - mean_x
    num_samples, num_values = z.shape
    strength = ridge * (float(z.square().sum()) / num_values or 1.0)
    if num_values <= num_samples:
        weight = torch.linalg.solve(z.T @ z + strength * torch.eye(num_values, dtype=z.dtype, device=z.device), z.T @ x)
    else:
        eye = torch.eye(num_samples, dtype=z.dtype, device=z.device)
        weight = z.T @ torch.linalg.solve(z @ z.T + strength * eye, x)
    return weight, mean_x - mean_z @ weight


class _Scaled(nn.Module):
    """Net with normalized inputs and outputs, so that one learning rate suits all data.

    Args:
        net: Net from normalized z to normalized x.
        z: Public smashed data, which give mean and deviation of inputs.
        x: Public samples, which give mean and deviation of outputs.
    """

    mean_z: Tensor
    std_z: Tensor
    mean_x: Tensor
    std_x: Tensor

    def __init__(self, net: nn.Module, z: Tensor, x: Tensor) -> None:
        super().__init__()
        self.net = net
        for name, values in (("z", z), ("x", x)):
            self.register_buffer(f"mean_{name}", values.detach().mean(0))
            self.register_buffer(f"std_{name}", values.detach().std().clamp_min(1e-6))

    def forward(self, z: Tensor) -> Tensor:
        found: Tensor = self.net((z - self.mean_z) / self.std_z)
        return found * self.std_x + self.mean_x


def _mlp(z: Tensor, x: Tensor, width: int) -> nn.Module:
    net = nn.Sequential(
        nn.Flatten(),
        nn.Linear(z[0].numel(), width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, x[0].numel()),
        nn.Unflatten(1, x.shape[1:]),
    )
    return _Scaled(net, z, x)


def _conv(z: Tensor, x: Tensor, width: int) -> nn.Module:
    """Return a linear map to a quarter of the image size, two transposed convolutions and one convolution."""
    if x.dim() != 4:
        raise UsageError(
            f"a conv decoder returns images [c, h, w], but the inputs are {list(x.shape[1:])}",
            hint="set leakage.decoder.kind: mlp",
        )
    channels, rows, columns = x.shape[1:]
    small, narrow = max(4, width // 8), max(4, width // 16)
    quarter = (math.ceil(rows / 4), math.ceil(columns / 4))
    net = nn.Sequential(
        nn.Flatten(),
        nn.Linear(z[0].numel(), small * quarter[0] * quarter[1]),
        nn.Unflatten(1, (small, *quarter)),
        nn.ReLU(),
        nn.ConvTranspose2d(small, small, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(small, narrow, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(narrow, channels, 3, padding=1),
        _Crop(rows, columns),
    )
    return _Scaled(net, z, x)


class _Crop(nn.Module):
    """Crop to the first rows and columns, because sizes are rounded up to multiples of 4."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self._rows, self._columns = rows, columns

    def forward(self, images: Tensor) -> Tensor:
        return images[..., : self._rows, : self._columns]
