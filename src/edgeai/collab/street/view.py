"""The camera: projection from meters to pixels, and the canvas of a frame.

Frames are rendered at twice their resolution and averaged down, so that edges in the image are smooth; labels are the
class of one of the four samples and stay sharp.

Shapes: R rows and K columns of the fine canvas, R = 2 H and K = 2 W.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from edgeai.collab.street.scene_objects import FAR_M, Scene
from edgeai.collab.street.textures import CLASSES

Array = np.ndarray

FINE = 2
NEAR_M = 0.9
SKY_M = 1000.0
"""Depth of sky and skyline."""
_FOCAL_PER_WIDTH = 0.95  # 56 degrees from left to right
_HORIZON_FRAC = 0.50
_FIRST_ID = len(CLASSES)


class View:
    """Projection and canvas of one scene.

    Args:
        scene: Scene to render.
        height: Height of the frame in pixels.
        width: Width of the frame in pixels.
    """

    def __init__(self, scene: Scene, height: int, width: int) -> None:
        self.rows, self.columns = FINE * height, FINE * width
        self.focal_px = _FOCAL_PER_WIDTH * self.columns
        self.center = self.columns / 2 - scene.yaw_rad * self.focal_px
        self.horizon = _HORIZON_FRAC * self.rows + scene.tilt_rad * self.focal_px
        self.eye_m = scene.camera_height_m
        self.bend = scene.bend
        self.texels = np.zeros((self.rows, self.columns), dtype=np.uint32)  # RGB and class, see textures.pack
        self.depth = np.full((self.rows, self.columns), SKY_M, dtype=np.float32)

    def column(self, x: float, z: float) -> float:
        """Return the column of a point, counted from the left edge of the canvas."""
        return self.center + self.focal_px * (x / z + self.bend * z)

    def row(self, y: float, z: float) -> float:
        """Return the row of a point at height y, counted from the upper edge of the canvas."""
        return self.horizon + self.focal_px * (self.eye_m - y) / z

    def point(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Return column and row; points behind the camera are moved in front of it, far outside the image."""
        z = max(z, NEAR_M)
        return self.column(x, z), self.row(y, z)

    def distance(self, x: float, columns: Array) -> Array:
        """Return where the lines of sight of columns meet the plane at x: z = 2x / (q + sign(x) sqrt(q^2 - 4 bend x)).

        This is the smaller solution z of q = x / z + bend z, without division by a bend that may be 0.
        """
        q = (columns + 0.5 - self.center) / self.focal_px
        root = np.sqrt(np.maximum(q * q - 4 * self.bend * x, 0.0))
        bottom = q + math.copysign(1.0, x) * root
        with np.errstate(divide="ignore"):
            z = 2 * x / bottom
        return np.where(z > 0, z, np.inf)


class Pen:
    """Draws polygons with PIL on the view's canvas; the fourth byte of a pixel is the number of its object.

    Objects must be drawn farthest first. `finish` converts the numbers to classes and depths.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        canvas = view.texels.view(np.uint8).reshape(view.rows, view.columns, 4)
        self._image = Image.frombytes("CMYK", (view.columns, view.rows), canvas.tobytes())  # four plain bytes per pixel
        self._draw = ImageDraw.Draw(self._image)
        self._labels = list(range(_FIRST_ID))
        self._depths = [0.0] * _FIRST_ID
        self._id = 0

    def begin(self, label: int, z: float) -> bool:
        """Start the next object; return False if it is too far, or if the byte has no number left."""
        if len(self._labels) == 256 or z >= FAR_M:
            return False
        self._id = len(self._labels)
        self._labels.append(label)
        self._depths.append(z)
        return True

    def polygon(self, points: list[tuple[float, float]], color: tuple[float, float, float]) -> None:
        self._draw.polygon(points, fill=(int(color[0]), int(color[1]), int(color[2]), self._id))

    def disc(self, column: float, row: float, half_w: float, half_h: float, color: tuple[float, float, float]) -> None:
        box = (column - half_w, row - half_h, column + half_w, row + half_h)
        self._draw.ellipse(box, fill=(int(color[0]), int(color[1]), int(color[2]), self._id))

    def finish(self) -> None:
        """Write the drawn objects, their classes and depths to the view."""
        canvas = (
            np.frombuffer(self._image.tobytes(), dtype=np.uint8).reshape(self.view.rows, self.view.columns, 4).copy()
        )
        ids = canvas[..., 3]
        depths = np.asarray(self._depths, dtype=np.float32)[ids]
        np.copyto(self.view.depth, depths, where=ids >= _FIRST_ID)
        canvas[..., 3] = np.asarray(self._labels, dtype=np.uint8)[ids]
        self.view.texels = canvas.view(np.uint32)[..., 0]
