"""Records of samples and data sets.

Shapes: n samples; x is [n, C, H, W] for images, [n, C, T] or [n, T, F] for sequences, [n, F] for tables, and [n, T]
int64 for tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Samples:
    """Inputs and their classes."""

    x: Tensor
    """[n, ...] float32, or int64 for tokens."""
    y: Tensor
    """[n] int64 class numbers, from 0."""

    def __len__(self) -> int:
        return len(self.y)

    def pick(self, rows: Tensor) -> Samples:
        """Return the samples at `rows`, int64, in that order."""
        return Samples(self.x[rows], self.y[rows])


@dataclass(frozen=True)
class Dataset:
    """Training and test samples with the same classes and shape."""

    name: str
    train: Samples
    test: Samples
    classes: tuple[str, ...]
    """Name of each class."""
    groups: Tensor | None = None
    """[n] int64: the natural client of each training sample, such as a speaker, from 0."""
    group_names: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    """Name of each input of a table."""
    columns: tuple[str, ...] = ()
    """Column of each input of a table; a categorical column has several inputs."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.train.x.shape[1:])
