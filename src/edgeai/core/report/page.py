"""A report as one HTML file: no script, nothing fetched, light or dark as the reader's system is, readable on a phone.

Text is escaped; only a figure's SVG is taken as it is, so draw it with `plot.py`.
"""

import base64
import importlib.resources
from collections.abc import Sequence
from itertools import groupby

from edgeai.core.report.blocks import Block
from edgeai.core.report.columns import columns_of


def render_page(title: str, blocks: Sequence[Block], *, summary: str = "") -> str:
    """Render a page.

    Args:
        title: Of the window and the page.
        blocks: In reading order; neighbors of one kind share an element of the page.
        summary: One line below the title.

    Returns:
        A whole HTML document.

    Raises:
        ValueError: An image is neither SVG, PNG nor JPEG.
    """
    import jinja2

    source = importlib.resources.files("edgeai.core.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    strict = jinja2.StrictUndefined
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=strict)
    environment.filters |= {"data_uri": _data_uri, "columns": columns_of}
    groups = [(kind.__name__, list(group)) for kind, group in groupby(blocks, type)]
    return environment.from_string(source).render(title=title, summary=summary, groups=groups)


def _data_uri(image: bytes) -> str:
    if image.startswith(b"\x89PNG"):
        kind = "png"
    elif image.startswith(b"\xff\xd8"):
        kind = "jpeg"
    else:
        raise ValueError(f"neither PNG nor JPEG: {image[:8]!r}")
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
