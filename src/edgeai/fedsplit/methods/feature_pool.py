"""Pool of smashed data: the uploads of one round as a data set for the server."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


class Pool:
    """Rows of several columns, such as z [n, ...] and y [n], grouped by cut."""

    def __init__(self) -> None:
        self._rows: dict[int, list[tuple[Tensor, ...]]] = {}

    def add(self, position: int, *columns: Tensor) -> None:
        """Add rows.

        Args:
            position: Position of the cut.
            columns: Tensors with the same number of rows.
        """
        self._rows.setdefault(position, []).append(columns)

    @property
    def num_bytes(self) -> int:
        """Bytes of all rows."""
        columns = [column for parts in self._rows.values() for part in parts for column in part]
        return sum(column.numel() * column.element_size() for column in columns)

    def batches(self, size: int, seed: int) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """Yield shuffled batches of all clients' rows, each from one cut; batches of several cuts are shuffled, too.

        Args:
            size: Rows per batch; the last one of a cut may be short.
            seed: Seed of the order.

        Yields:
            Position of the cut, and columns.
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
