"""Results on stdout: one JSON document, or the blocks of a report as text."""

import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table as TextTable

from edgeai.core.files import json_text
from edgeai.core.report.blocks import Block, Cell, Heading, Paragraph, Table
from edgeai.core.report.columns import cell_text, columns_of

_PIPED_WIDTH = 160


def print_json(document: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print the one JSON document of a verb."""
    print(json_text(document))


def print_blocks(blocks: Iterable[Block]) -> None:
    """Print headings, paragraphs and tables with blank lines between them; pictures are left out."""
    gap = ""
    last: Block | None = None
    for block in blocks:
        if isinstance(block, Heading):
            print(f"{gap}{block.text}")
            gap, last = "", block
            continue
        if isinstance(block, Paragraph):
            print(f"{'' if isinstance(last, Paragraph) else gap}{_wrapped(block.text)}")
        elif isinstance(block, Table):
            print(gap, end="")
            print_table(block.columns, block.rows)
            if block.caption:
                print(_wrapped(block.caption))
        else:
            continue
        gap, last = "\n", block


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print rows under headings; numbers are set flush right, None shows as a dash, a bool as yes or no."""
    table = TextTable(box=None, pad_edge=False, header_style="bold")
    laid_out = columns_of(Table(columns, rows))
    for column in laid_out:
        table.add_column(column.name, justify="right" if column.is_numeric else "left", overflow="fold")
    for row in zip(*(column.texts for column in laid_out), strict=True):
        table.add_row(*row)
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    with console.capture() as capture:
        console.print(table)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def print_fields(fields: Mapping[str, Cell]) -> None:
    """Print names and values, one pair a line."""
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        print(f"{name:<{width}}  {cell_text(value)}")


def _wrapped(text: str) -> str:
    width = Console().width if sys.stdout.isatty() else _PIPED_WIDTH
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
