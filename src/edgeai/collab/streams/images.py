"""Resize frames and label maps, and paint label maps in class colors.

Shapes: H rows and W columns of a frame, C classes.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from edgeai.collab.streams.classes import COLOR_ALIASES, COLORS

Array = np.ndarray


def resized(image: Array, height: int, width: int, *, smooth: bool) -> Array:
    """Return an image at another size.

    Args:
        image: RGB image [H, W, 3] uint8 or label map [H, W] uint8.
        height: New height in pixels.
        width: New width in pixels.
        smooth: Bilinear interpolation, for images; otherwise nearest neighbor, for label maps.
    """
    if image.shape[:2] == (height, width):
        return image
    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(image).resize((width, height), method))


def class_colors(classes: tuple[str, ...]) -> Array:
    """Return a palette [C, 3] uint8: the usual color of each class, or the VOC color of its number."""
    colors = [COLORS.get(COLOR_ALIASES.get(name, name)) or voc_color(index + 1) for index, name in enumerate(classes)]
    return np.array(colors, dtype=np.uint8)


def voc_color(number: int) -> tuple[int, int, int]:
    """Return the VOC color of a class: three bits of the number at a time, one per channel, highest weight first."""
    color = [0, 0, 0]
    for weight in range(7, -1, -1):
        for channel in range(3):
            color[channel] |= (number >> channel & 1) << weight
        number >>= 3
    return color[0], color[1], color[2]


def paint_labels(labels: Array, palette: Array) -> Array:
    """Return labels in their class colors [H, W, 3] uint8; ignored pixels are black."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = palette  # all other values, IGNORE included, stay black
    return np.asarray(table[labels])
