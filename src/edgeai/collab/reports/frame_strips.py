"""Pictures of chosen frames for a page: frame, label maps of edge, cloud, fusion and truth, and disagreements.

Shapes: H x W pixels, C classes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgeai.collab.metrics.confusion import IGNORE
from edgeai.collab.reports.frame_records import OVERLAYS
from edgeai.collab.streams.images import Array, class_colors, paint_labels
from edgeai.core.report.blocks import Figure, Strip, StripImage
from edgeai.core.report.plot import draw_figure

MAX_STRIPS = 12
"""More strips would make the page many megabytes large."""
DIFFERENT = np.array([230, 40, 40], dtype=np.uint8)
KEY_COLUMNS = 4
NAMES = {"edge": "edge", "semantics": "cloud", "fused": "fused with masks", "truth": "truth"}
"""Label of each map by its name in the file, in the order of a strip."""


def overlay_strips(folder: Path, classes: Sequence[str], about: Mapping[int, str]) -> list[Strip]:
    """Return a strip for each frame whose pictures the run has kept, at most 12.

    Args:
        folder: Run directory.
        classes: Names of the stream's C classes.
        about: Caption of each frame by its number.
    """
    files = sorted((folder / OVERLAYS).glob("*.npz"))
    return [_strip(path, classes, about.get(int(path.stem), "")) for path in spread(files, MAX_STRIPS)]


def spread(items: Sequence[Path], num: int) -> list[Path]:
    """Return at most `num` items, evenly spaced over all."""
    if len(items) <= num:
        return list(items)
    return [items[place * len(items) // num] for place in range(num)]


def disagreement(frame: Array, edge: Array, other: Array) -> Array:
    """Return the frame in gray, and red where two label maps differ [H,W,3]; ignored pixels do not differ."""
    gray = (frame.astype(np.float32).mean(2, keepdims=True) * 0.5 + 100).clip(0, 255).astype(np.uint8)
    differs = (edge != other) & (edge != IGNORE) & (other != IGNORE)
    return np.where(differs[..., None], DIFFERENT, gray.repeat(3, 2))


def color_key(classes: Sequence[str]) -> Figure:
    """Return the legend: the color of each class."""
    colors = class_colors(tuple(classes)) / 255

    def draw(axes: Any) -> None:
        from matplotlib.patches import Patch

        axes.axis("off")
        squares = [Patch(facecolor=tuple(color), label=name) for name, color in zip(classes, colors, strict=True)]
        axes.legend(handles=squares, loc="center left", ncols=KEY_COLUMNS)

    height_in = 0.1 + 0.26 * -(-len(classes) // KEY_COLUMNS)
    return draw_figure(
        draw, caption="Colors of the classes.", alt=f"Classes: {', '.join(classes)}.", size_in=(5.2, height_in)
    )


def _strip(path: Path, classes: Sequence[str], about: str) -> Strip:
    with np.load(path, allow_pickle=False) as kept:
        planes = {name: kept[name] for name in kept.files}
    palette = class_colors(tuple(classes))
    images = [StripImage(_encoded(planes["frame"], "JPEG", quality=88), "frame")]
    for name, label in NAMES.items():
        if name in planes:
            images.append(StripImage(_encoded(paint_labels(planes[name], palette), "PNG", optimize=True), label))
    other = planes.get("fused")
    if other is not None and "edge" in planes:
        picture = disagreement(planes["frame"], planes["edge"], other)
        images.append(StripImage(_encoded(picture, "JPEG", quality=88), "edge and cloud differ"))
    number = int(path.stem)
    return Strip(images, f"Frame {number}{': ' if about else ''}{about}")


def _encoded(image: Array, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()
