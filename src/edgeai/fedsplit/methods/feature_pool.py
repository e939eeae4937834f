"""All that clients sent in one round, as one data set of the server's: features are samples."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


class Pool:
    """Rows of several columns, such as z [n, ...] and y [n], apart for each cut that they come from."""

    def __init__(self) -> None:
        self._rows: dict[int, list[tuple[Tensor, ...]]] = {}

    def add(self, position: int, *columns: Tensor) -> None:
        """Adds rows.

        Args:
            position: Of the cut.
            columns: The same number of rows in each.
        """
        self._rows.setdefault(position, []).append(columns)

    @property
    def num_bytes(self) -> int:
        """Of all rows."""
        columns = [column for parts in self._rows.values() for part in parts for column in part]
        return sum(column.numel() * column.element_size() for column in columns)

    def batches(self, size: int, seed: int) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """Shuffled batches of all clients' rows, each of one cut; those of several cuts come in mixed order.

        Args:
            size: Rows in each; the last one of a cut may be short.
            seed: Of the order.

        Yields:
            Position of the cut, columns.
        """
        generator = torch.Generator().manual_seed(seed)
        whole = {position: _joined(parts) for position, parts in sorted(self._rows.items())}
        batches = []
        for position, columns in whole.items():
            order = torch.randperm(len(columns[0]), generator=generator)
            batches += [(position, rows) for rows in order.split(size)]
        if len(whole) > 1:
            batches = [batches[number] for number in torch.randperm(len(batches), generator=generator).tolist()]
        for position, rows in batches:
            yield position, tuple(column[rows] for column in whole[position])


def _joined(parts: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))
