"""What a report is made of: a sequence of blocks, which are printed as text or rendered as an HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Number:
    """A number with its own text, such as Number(1.5e6, "1.5 MB"): set flush right and compared by value."""

    value: float
    text: str


Cell = str | int | float | Number | None
"""Numbers are set flush right and shortened to four digits; None shows as a dash, a bool as yes or no."""


@dataclass(frozen=True)
class Heading:
    """A heading below the page's title; level 2 or 3."""

    text: str
    level: Literal[2, 3] = 2


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows under column names.

    Args:
        columns: The names.
        rows: One cell per column each.
        caption: What the rows are, and in which units.
        best: Columns whose best value is set bold, and whether the largest or the smallest is best.

    Raises:
        ValueError: A row has more or fewer cells than there are columns, or `best` names no column.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    best: Mapping[str, Literal["max", "min"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells below {len(self.columns)} columns")
        if unknown := set(self.best) - set(self.columns):
            raise ValueError(f"best names no column: {', '.join(sorted(unknown))}")


@dataclass(frozen=True)
class Figure:
    """One picture. Figures that follow each other stand side by side where there is room.

    Args:
        image: An SVG element as text, or the bytes of a PNG or JPEG file.
        caption: What is to be seen.
        alt: The same for someone who cannot see it.

    Raises:
        ValueError: The text is not an SVG element.
    """

    image: str | bytes
    caption: str
    alt: str

    def __post_init__(self) -> None:
        if isinstance(self.image, str) and not self.image.startswith("<svg"):
            raise ValueError(f"expected an SVG element, found {self.image[:20]!r}")


@dataclass(frozen=True)
class StripImage:
    """One image of a strip: the bytes of a PNG or JPEG file, and the word below it."""

    image: bytes
    label: str


@dataclass(frozen=True)
class Strip:
    """Images of one size in a row: the same scene in different renderings."""

    images: Sequence[StripImage]
    caption: str


Block = Heading | Paragraph | Table | Figure | Strip


def section(title: str, *blocks: Block) -> list[Block]:
    """Return blocks below their heading; nothing without blocks."""
    return [Heading(title), *blocks] if blocks else []
