"""The columns of a table as text, the same on the terminal and on a page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeai.core.report.blocks import Cell, Number, Table


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        name: The text above it.
        is_numeric: Whether all cells are numbers or missing: they are set flush right.
        texts: The cells from top to bottom.
        is_best: Whether each cell holds the best value; nowhere true where all values are equal.
    """

    name: str
    is_numeric: bool
    texts: tuple[str, ...]
    is_best: tuple[bool, ...]


def columns_of(table: Table) -> list[Column]:
    """Return the columns of a table; the numbers of a column are written with the same decimals."""
    columns = []
    for name, *cells in zip(table.columns, *table.rows, strict=True):
        found = [_value(cell) for cell in cells]
        values = [value for value in found if value is not None]
        is_numeric = bool(values) and len(values) == sum(cell is not None for cell in cells)
        decimals = _decimals([cell for cell in cells if isinstance(cell, float)]) if is_numeric else None
        choose = {"max": max, "min": min, None: None}[table.best.get(name)]
        best = choose(values) if choose and len(set(values)) > 1 else None
        texts = tuple(cell_text(cell, decimals) for cell in cells)
        columns.append(Column(name, is_numeric, texts, tuple(best is not None and value == best for value in found)))
    return columns


def cell_text(cell: Cell, decimals: int | None = None) -> str:
    """Return a cell as text.

    Args:
        cell: The cell.
        decimals: Decimals of a float; None shows four digits.
    """
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, Number):
        return cell.text
    if isinstance(cell, float):
        return f"{cell:.4g}" if decimals is None else f"{cell:,.{decimals}f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _value(cell: Cell) -> float | None:
    if isinstance(cell, Number):
        return cell.value
    return None if cell is None or isinstance(cell, str | bool) else float(cell)


def _decimals(values: Sequence[float]) -> int | None:
    """Decimals that show a column's numbers alike, the largest with four digits; None where they are too unlike."""
    finite = [abs(value) for value in values if math.isfinite(value) and value]
    if len(finite) < 2:
        return None
    fits = 3 - math.floor(math.log10(max(finite)))
    needed = max(len(f"{value:.4g}".partition(".")[2]) for value in finite)
    decimals = max(0, min(fits, needed))
    is_lost = min(finite) < 10**-decimals or decimals > 6
    return None if is_lost else decimals
