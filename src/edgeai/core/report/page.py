"""A report as one HTML file: no script, nothing fetched, light or dark as the reader's system is, readable on a phone.

Text is escaped; only a figure's SVG is taken as it is, so draw it with `plot.py`.
"""

import base64
import importlib.resources
import math
from collections.abc import Sequence

from edgeai.core.report.blocks import Block, Cell, Figure, Heading, Number, Paragraph, Table

_NONE = "–"


def render_page(title: str, blocks: Sequence[Block], *, summary: str = "") -> str:
    """Render a page.

    Args:
        title: Of the window and the page.
        blocks: In reading order.
        summary: One line below the title.

    Returns:
        A whole HTML document.

    Raises:
        ValueError: A row has more or fewer cells than columns, `best` names no column, or an image is neither SVG, PNG
            nor JPEG.
    """
    import jinja2

    source = importlib.resources.files("edgeai.core.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    strict = jinja2.StrictUndefined
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=strict)
    return environment.from_string(source).render(title=title, summary=summary, parts=_parts(blocks))


def _parts(blocks: Sequence[Block]) -> list[dict[str, object]]:
    """Turn blocks into what the template loops over; neighbouring figures become one part."""
    parts: list[dict[str, object]] = []
    figures: list[dict[str, object]] = []
    for block in blocks:
        if isinstance(block, Figure):
            if not figures:
                parts.append({"kind": "figures", "figures": figures})
            figures.append(_figure(block))
            continue
        figures = []
        if isinstance(block, Heading):
            parts.append({"kind": "heading", "level": block.level, "text": block.text})
        elif isinstance(block, Paragraph):
            parts.append({"kind": "paragraph", "text": block.text})
        elif isinstance(block, Table):
            parts.append({"kind": "table", **_table(block)})
        else:
            images = [{"uri": _data_uri(item.image), "label": item.label} for item in block.images]
            parts.append({"kind": "strip", "images": images, "caption": block.caption})
    return parts


def _figure(block: Figure) -> dict[str, object]:
    about: dict[str, object] = {"caption": block.caption, "alt": block.alt}
    if isinstance(block.image, bytes):
        return {**about, "svg": "", "uri": _data_uri(block.image)}
    if not block.image.startswith("<svg"):
        raise ValueError(f"expected an SVG element, found {block.image[:20]!r}")
    return {**about, "svg": block.image, "uri": ""}


def _table(block: Table) -> dict[str, object]:
    for row in block.rows:
        if len(row) != len(block.columns):
            raise ValueError(f"a row of {len(row)} cells below {len(block.columns)} columns")
    if unknown := set(block.best) - set(block.columns):
        raise ValueError(f"best names no column: {', '.join(sorted(unknown))}")
    columns, cells = [], []
    for name, *column in zip(block.columns, *block.rows, strict=True):
        values = [value for cell in column if (value := _value(cell)) is not None]
        is_numeric = bool(values) and all(cell is None or _value(cell) is not None for cell in column)
        columns.append({"name": name, "is_numeric": is_numeric})
        choose = {"max": max, "min": min, None: None}[block.best.get(name)]
        best = choose(values) if choose and len(set(values)) > 1 else None  # among equals there is no best
        decimals = _decimals([cell for cell in column if isinstance(cell, float)]) if is_numeric else None
        cells.append(
            [{"text": _text(cell, decimals), "is_best": best is not None and _value(cell) == best} for cell in column]
        )
    is_fields = not block.columns[0] and block.columns[1:2] == ("value",)
    return {
        "caption": block.caption,
        "columns": columns,
        "rows": list(zip(*cells, strict=True)),
        "is_fields": is_fields,  # label, value and meaning are stacked on a phone
    }


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


def _value(cell: Cell) -> float | None:
    if isinstance(cell, Number):
        return cell.value
    return None if cell is None or isinstance(cell, str | bool) else float(cell)


def _text(cell: Cell, decimals: int | None) -> str:
    if cell is None:
        return _NONE
    if isinstance(cell, Number):
        return cell.text
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:.4g}" if decimals is None else f"{cell:,.{decimals}f}"
    return cell


def _data_uri(image: bytes) -> str:
    if image.startswith(b"\x89PNG"):
        kind = "png"
    elif image.startswith(b"\xff\xd8"):
        kind = "jpeg"
    else:
        raise ValueError(f"neither PNG nor JPEG: {image[:8]!r}")
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
