"""Results on stdout: one JSON document, or text and tables for people. Units are turned readable only here."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from edgeai.core.files import json_text

_PIPED_WIDTH = 160


def print_json(document: Mapping[str, Any] | Sequence[Any]) -> None:
    """Prints the one JSON document of a verb."""
    print(json_text(document))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """Prints rows under headings; numbers are set flush right, None shows as a dash."""
    cells = [list(row) for row in rows]
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], int | float | None) for row in cells) and bool(cells)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*(_cell(value) for value in row))
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    with console.capture() as capture:
        console.print(table)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def print_fields(fields: Mapping[str, object]) -> None:
    """Prints names and values, one pair a line."""
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        print(f"{name:<{width}}  {_cell(value)}")


def amount(value: float, unit: str = "") -> str:
    """Writes a count or rate shortly: 98.4 MB, 1.5 ktok, 12 prompts."""
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.1f} {prefix}{unit}"
    number = f"{value:.0f}" if value >= 100 or float(value).is_integer() else f"{value:.1f}"
    return f"{number} {unit}".rstrip()


def seconds(value_s: float) -> str:
    """Writes a duration shortly: 850 ms, 12.3 s, 4 min 05 s, 2 h 10 min."""
    if value_s < 1:
        return f"{value_s * 1000:.0f} ms"
    if value_s < 60:
        return f"{value_s:.1f} s"
    minutes, rest_s = divmod(round(value_s), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
