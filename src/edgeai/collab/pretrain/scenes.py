"""Random labeled scenes for pretraining, generated or recorded, some of them with drift.

Scene i depends only on (seed, i). Numbers of training scenes are odd, those of validation scenes are even.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeai.collab.config.streams import StreamConfig, StreamSource, StreetConfig
from edgeai.collab.streams.build import build_stream
from edgeai.collab.streams.drift import KINDS, apply
from edgeai.collab.streams.images import resized
from edgeai.collab.streams.stream import Frame, Stream
from edgeai.collab.street.drive import street_scene
from edgeai.core.errors import UsageError

DRAW_SCENE, DRAW_DRIFT = 1, 2  # separate the draws of one scene
MIN_CROP = 0.6  # minimum side of a crop of a recorded frame, as a share
GAIN, GAMMA = 0.25, 0.25  # maximum change of brightness and contrast of a recorded frame

Draw = Callable[[int, bool], Frame]
"""Returns a scene for a seed, with new looks if the flag is set."""


@dataclass(frozen=True)
class LabeledScene:
    """An image with its ground truth."""

    image: np.ndarray
    """RGB [H,W,3] uint8."""
    labels: np.ndarray
    """[H,W] uint8."""
    drift: str
    """Kind of drift applied; empty for a clear scene."""


@dataclass(frozen=True)
class Generated:
    """Scenes of the generated street."""

    source: StreetConfig

    def __call__(self, seed: int, new_looks: bool) -> Frame:
        """Return the scene of a seed."""
        return street_scene(seed, self.source.model_copy(update={"looks": "new"}) if new_looks else self.source)


class Recorded:
    """Random recorded frames, flipped, cropped and with changed lighting.

    Args:
        frames: Labeled frames.
        change: Augment the frames; otherwise return them unchanged.
    """

    def __init__(self, frames: list[Frame], *, change: bool) -> None:
        self.frames = frames
        self.change = change

    def __call__(self, seed: int, new_looks: bool) -> Frame:
        """Return a random frame; recorded frames have no new looks."""
        rng = np.random.default_rng(seed)
        frame = self.frames[int(rng.integers(len(self.frames)))]
        assert frame.labels is not None
        if not self.change:
            return frame
        height, width = frame.labels.shape
        share = rng.uniform(MIN_CROP, 1.0)
        rows, columns = round(height * share), round(width * share)
        top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
        step = -1 if rng.random() < 0.5 else 1
        window = (slice(top, top + rows), slice(left, left + columns))
        image = resized(np.ascontiguousarray(frame.image[window][:, ::step]), height, width, smooth=True)
        labels = resized(np.ascontiguousarray(frame.labels[window][:, ::step]), height, width, smooth=False)
        gain, gamma = 1 + rng.uniform(-GAIN, GAIN), 1 + rng.uniform(-GAMMA, GAMMA)
        light = np.clip(255 * gain * (np.arange(256) / 255) ** gamma, 0, 255).astype(np.uint8)
        return Frame(frame.id, frame.time_s, light[image], labels, frame.segment)


def draws_of(source: StreamSource, seed: int) -> tuple[Draw, Draw, tuple[str, ...]]:
    """Return the training and validation scenes of a source, and its classes.

    Validation uses no training scene: it takes the last tenth of the recorded frames.

    Raises:
        UsageError: The source cannot be read, or has fewer than ten labeled frames.
    """
    stream: Stream = build_stream(StreamConfig(source=source), seed)
    if isinstance(source, StreetConfig):
        return Generated(source), Generated(source), stream.classes
    frames = [frame for frame in stream.frames() if frame.labels is not None]
    if len(frames) < 10:
        raise UsageError(f"{len(frames)} frames with labels are too few to train on", hint="check source.path")
    first_val = len(frames) - len(frames) // 10
    return Recorded(frames[:first_val], change=True), Recorded(frames[first_val:], change=False), stream.classes


class Scenes:
    """An endless supply of scenes.

    Args:
        seed: Seed of all scenes.
        drift_frac: Share of scenes with a drift of random kind.
        max_level: Maximum drift level; levels are uniform up to it.
        new_looks_frac: Share of scenes with new looks.
        draw: Source of training scenes.
        draw_val: Source of validation scenes.
    """

    def __init__(
        self,
        seed: int,
        *,
        drift_frac: float,
        max_level: float,
        new_looks_frac: float,
        draw: Draw,
        draw_val: Draw,
    ) -> None:
        self.seed = seed
        self.drift_frac = drift_frac
        self.max_level = max_level
        self.new_looks_frac = new_looks_frac
        self.draw, self.draw_val = draw, draw_val

    def train(self, step: int, batch: int) -> list[LabeledScene]:
        """Return the scenes of one training step."""
        return [self._scene(self.draw, 2 * (step * batch + i) + 1) for i in range(batch)]

    def val(self, num: int) -> list[LabeledScene]:
        """Return the validation scenes."""
        return [self._scene(self.draw_val, 2 * i) for i in range(num)]

    def _scene(self, draw: Draw, number: int) -> LabeledScene:
        rng = np.random.default_rng((self.seed, DRAW_DRIFT, number))
        drifted, new_looks = rng.random() < self.drift_frac, bool(rng.random() < self.new_looks_frac)
        kind, level = KINDS[int(rng.integers(len(KINDS)))], float(rng.uniform(0.0, self.max_level))
        drift_seed = int(rng.integers(2**31))
        frame = draw(int(np.random.default_rng((self.seed, DRAW_SCENE, number)).integers(2**31)), new_looks)
        assert frame.labels is not None
        if not drifted:
            return LabeledScene(frame.image, frame.labels, "")
        return LabeledScene(apply(frame.image, kind, level, drift_seed, frame.depth_m), frame.labels, kind)
