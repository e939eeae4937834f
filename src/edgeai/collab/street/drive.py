"""The street stream: a drive through an endless generated street with exact labels and depth.

Frame i depends only on (config, seed, i). The street is ours; it uses no recorded data.

Shapes: H rows and W columns of a frame.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from edgeai.collab.config.streams import StreetConfig
from edgeai.collab.streams.images import class_colors
from edgeai.collab.streams.stream import Frame
from edgeai.collab.street.backdrop import ground_light, paint_crowns, paint_ground, paint_sky, paint_walls
from edgeai.collab.street.draw_objects import draw_objects
from edgeai.collab.street.scene_objects import Scene
from edgeai.collab.street.textures import CLASSES, PAVEMENT, ROAD
from edgeai.collab.street.view import FINE, SKY_M, Pen, View
from edgeai.collab.street.world import StreetWorld

Array = np.ndarray

_SENSOR_NOISE = 3.0  # standard deviation of a pixel in daylight, of 255
_SCENE_S = 600.0  # single scenes are sampled from the first ten minutes of a drive


class StreetStream:
    """A stream of consecutive frames of one street.

    Args:
        config: Frame size, frame rate and looks.
        seed: Seed of the street, its lighting and all objects.
    """

    classes = CLASSES

    def __init__(self, config: StreetConfig, seed: int) -> None:
        self.height, self.width, self.rate_hz = config.height, config.width, config.rate_hz
        self.num_frames: int | None = config.num_frames
        self.problems: list[str] = []
        self.palette = class_colors(CLASSES)
        self._seed = seed
        self._new_share = 1.0 if config.looks == "new" else 0.0
        self._world = StreetWorld(seed, speed_mps=config.speed_mps, light=config.light)

    def frame(self, index: int, new_share: float | None = None) -> Frame:
        """Render one frame, independent of earlier ones.

        Args:
            index: Number of the frame in the stream.
            new_share: Share of houses, cars and people with new looks; None takes the share of the config.
        """
        time_s = index / self.rate_hz
        scene = self._world.scene(time_s, self._new_share if new_share is None else new_share)
        image, labels, depth_m = _render(scene, self.height, self.width, (self._seed, 5, index))
        return Frame(f"{index:06d}", time_s, image, labels, segment="clear", depth_m=depth_m)

    def frames(self) -> Iterator[Frame]:
        """Yield the whole drive."""
        index = 0
        while self.num_frames is None or index < self.num_frames:
            yield self.frame(index)
            index += 1


def street_scene(seed: int, config: StreetConfig | None = None) -> Frame:
    """Return a single frame for training; every seed has another street, lighting and position."""
    at = float(np.random.default_rng((seed, 6)).uniform(0, _SCENE_S))
    stream = StreetStream(config or StreetConfig(), seed)
    return stream.frame(int(at * stream.rate_hz))


def _render(scene: Scene, height: int, width: int, seed: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Return image [H, W, 3] uint8, labels [H, W] uint8 and depth in meters [H, W] float32."""
    view = View(scene, height, width)
    paint_sky(view, scene)
    paint_ground(view, scene)
    paint_walls(view, scene)
    pen = Pen(view)
    draw_objects(pen, scene)
    pen.finish()
    paint_crowns(view, scene.trees)
    labels = view.texels.view(np.uint8).reshape(view.rows, view.columns, 4)[1::FINE, 1::FINE, 3]
    depth = view.depth[1::FINE, 1::FINE]
    image = _expose(view, scene, labels, depth, np.random.default_rng(seed))
    step = -1 if scene.mirrored else 1
    return tuple(np.ascontiguousarray(part[:, ::step]) for part in (image, labels, depth))  # type: ignore[return-value]


def _expose(view: View, scene: Scene, labels: Array, depth: Array, rng: np.random.Generator) -> Array:
    """Downsample the fine canvas and add shadows, haze, light color and sensor noise."""
    canvas = Image.frombytes("CMYK", (view.columns, view.rows), view.texels.tobytes())
    colors = np.asarray(canvas.reduce(FINE))[..., :3].astype(np.float32)
    light = np.where((labels == ROAD) | (labels == PAVEMENT), ground_light(view, scene), np.float32(1))
    colors *= light[..., None] * (np.asarray(scene.light.tint, dtype=np.float32) * np.float32(scene.gain))
    haze = 1 - np.exp(depth / np.float32(-scene.light.haze_m))
    haze[depth >= SKY_M] = 0  # the sky texture includes haze
    colors += (np.asarray(scene.light.sky_low, dtype=np.float32) - colors) * haze[..., None]
    colors += rng.standard_normal(colors.shape, dtype=np.float32) * np.float32(_SENSOR_NOISE)
    return np.clip(colors, 0, 255).astype(np.uint8)
