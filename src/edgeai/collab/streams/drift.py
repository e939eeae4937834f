"""Drift applied to a stream: night, fog, rain, blur, sensor noise, and new looks.

Levels range from 0 (none) to 3. The constants of night, fog and rain at levels 1, 2 and 3 were chosen so that the
measured quality of a segmentation net decreases step by step without collapsing; between levels they are interpolated.
Blur and noise are ours. Drift works on images alone, except that fog uses exact depth if the frame has it, and that new
looks are rendered by the generated street.

Shapes: H rows and W columns of a frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from edgeai.collab.config.streams import DriftKind, DriftSegment
from edgeai.collab.streams.stream import Frame, Stream
from edgeai.collab.street.drive import StreetStream
from edgeai.core.errors import UsageError

Array = np.ndarray

KINDS: tuple[DriftKind, ...] = ("night", "fog", "rain", "blur", "noise")
"""Kinds that `apply` implements; the other two leave the image unchanged."""
MAX_LEVEL = 3.0
_LEVELS = (0.0, 1.0, 2.0, 3.0)
_NIGHT_GAMMA = (1.0, 1.15, 1.3, 1.45)
_NIGHT_GAIN = (1.0, 0.8, 0.65, 0.5)
_NIGHT_NOISE = (0.0, 0.008, 0.016, 0.024)
_FOG_BETA = (0.0, 0.25, 0.5, 0.9)
_FOG_NEAR, _AIRLIGHT = 0.15, 220.0
_FOG_DEPTH_M = 25.0  # maps exact depth to the range of the ramp: 0.15 at the camera, 1 far away
_RAIN_DENSITY = (0.0, 0.002, 0.004, 0.008)
_RAIN_GAIN, _STREAK_LIGHT, _STREAK_ALPHA = 0.9, 200.0, 0.6
_STREAK_PX, _STREAK_HEIGHT_PX = 15, 360  # a streak of 15 pixels in an image of 360 rows
_BLUR_FRAC = (0.0, 0.004, 0.008, 0.014)  # standard deviation as a fraction of the frame height
_NOISE = (0.0, 0.02, 0.04, 0.08)


def apply(
    image: Array, kind: DriftKind, level: float, seed: int | tuple[int, ...], depth_m: Array | None = None
) -> Array:
    """Return a copy of an image with drift [H, W, 3] uint8.

    Args:
        image: Image [H, W, 3] uint8.
        kind: One of KINDS; "clear" and "looks" leave the image unchanged.
        level: Strength, 0 to 3.
        seed: Seed of noise and raindrops; use a different one for each frame.
        depth_m: Depth [H, W] for fog; None uses a vertical ramp, far at the top.
    """
    if kind not in KINDS or level <= 0:
        return image
    if kind == "blur":
        sigma_px = _at(level, _BLUR_FRAC) * image.shape[0]
        return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma_px)))
    rng = np.random.default_rng(seed)
    colors: Array = image.astype(np.float32)
    if kind == "night":
        dark = np.float32(255 * _at(level, _NIGHT_GAIN)) * (colors / 255) ** np.float32(_at(level, _NIGHT_GAMMA))
        colors = _noisy(dark, _at(level, _NIGHT_NOISE), rng)
    elif kind == "noise":
        colors = _noisy(colors, _at(level, _NOISE), rng)
    elif kind == "fog":
        clear = np.exp(-np.float32(_at(level, _FOG_BETA)) * _fog_depth(image.shape[:2], depth_m))[..., None]
        colors = colors * clear + np.float32(_AIRLIGHT) * (1 - clear)
    else:
        drops = _streaks(image.shape[:2], _at(level, _RAIN_DENSITY), rng)[..., None]
        gain = 1 - (1 - _RAIN_GAIN) * min(level, 1.0)
        colors = colors * np.float32(gain)
        colors += (np.float32(_STREAK_LIGHT) - colors) * (np.float32(_STREAK_ALPHA) * drops)
    return np.clip(colors + np.float32(0.5), 0, 255).astype(np.uint8)


def _at(level: float, constants: tuple[float, ...]) -> float:
    return float(np.interp(level, _LEVELS, constants))


def _noisy(colors: Array, deviation: float, rng: np.random.Generator) -> Array:
    noise = rng.standard_normal(colors.shape, dtype=np.float32)
    return np.asarray(colors + noise * np.float32(255 * deviation), dtype=np.float32)


def _fog_depth(shape: tuple[int, ...], depth_m: Array | None) -> Array:
    """Return the amount of fog in front of each pixel, 0.15 to 1, broadcastable to [H, W]."""
    if depth_m is None:
        return np.linspace(1.0, _FOG_NEAR, shape[0], dtype=np.float32)[:, None]
    return np.asarray(_FOG_NEAR + (1 - _FOG_NEAR) * (1 - np.exp(depth_m / np.float32(-_FOG_DEPTH_M))))


def _streaks(shape: tuple[int, ...], density: float, rng: np.random.Generator) -> Array:
    """Return a map of slightly slanted raindrops, 1 on drops, else 0 [H, W] float32."""
    height, width = shape
    length = max(3, round(_STREAK_PX * height / _STREAK_HEIGHT_PX))
    starts = (
        rng.random((height + length, width + length)) < density * _STREAK_PX / length
    )  # independent of the streak length in pixels
    drops = np.zeros((height, width), dtype=bool)
    for step in range(length):
        drops |= starts[length - step : length - step + height, step // 4 : step // 4 + width]
    return drops.astype(np.float32)


@dataclass(frozen=True)
class Segment:
    """One part of a schedule, in frames."""

    name: str
    kind: DriftKind
    level: float
    begin: int
    end: float
    """First frame after the segment; infinite for the last one."""
    ramp: int
    """Number of frames of the transition from the previous segment."""


def schedule(segments: Sequence[DriftSegment], rate_hz: float) -> list[Segment]:
    """Convert lengths and times to frame numbers, and give every segment a unique name.

    Raises:
        UsageError: A segment other than the last has no end, or a segment ends before it begins.
    """
    found: list[Segment] = []
    names: dict[str, int] = {}
    begin = 0
    for index, item in enumerate(segments):
        name = item.name or ("clear" if item.kind == "clear" else f"{item.kind} {item.level:g}")
        names[name] = names.get(name, 0) + 1
        if names[name] > 1:
            name = f"{name} ({names[name]})"
        if item.num_frames is not None:
            end: float = begin + item.num_frames
        elif item.until_s is not None:
            end = math.ceil(item.until_s * rate_hz)
        else:
            end = math.inf
        if end <= begin:
            raise UsageError(f'drift segment "{name}" ends at {item.until_s:g} s, before it begins')
        if math.isinf(end) and index + 1 < len(segments):
            raise UsageError(f'drift segment "{name}" has no end', hint="set num_frames or until_s")
        found.append(Segment(name, item.kind, item.level, begin, end, item.ramp_frames))
        begin = int(end) if not math.isinf(end) else begin
    return found


class DriftedStream:
    """A stream with drift; the last segment continues to the end of the stream.

    Args:
        stream: Source stream.
        segments: Drift schedule.
        seed: Seed of noise and raindrops.

    Raises:
        UsageError: The schedule is invalid, or requests new looks from a stream other than the generated street.
    """

    def __init__(self, stream: Stream, segments: Sequence[DriftSegment], seed: int) -> None:
        self._stream, self._seed = stream, seed
        self.segments = schedule(segments, stream.rate_hz)
        self.classes, self.palette = stream.classes, stream.palette
        self.height, self.width, self.rate_hz = stream.height, stream.width, stream.rate_hz
        self.num_frames = stream.num_frames
        if any(segment.kind == "looks" for segment in self.segments) and not isinstance(stream, StreetStream):
            raise UsageError("drift of kind looks needs the generated street", hint="use source.kind: street")

    @property
    def problems(self) -> list[str]:
        """One line for each frame that the source stream skipped."""
        return self._stream.problems

    def frames(self) -> Iterator[Frame]:
        """Yield the frames of the source stream with drift."""
        for index, frame in enumerate(self._sources()):
            segment, levels = self._at(index)
            image = frame.image
            for place, (kind, level) in enumerate(levels):
                image = apply(image, kind, level, (self._seed, 7, index, place), frame.depth_m)
            yield replace(frame, image=image, segment=segment.name)

    def _sources(self) -> Iterator[Frame]:
        stream = self._stream
        if not isinstance(stream, StreetStream) or all(segment.kind != "looks" for segment in self.segments):
            yield from stream.frames()
            return
        index = 0
        while stream.num_frames is None or index < stream.num_frames:
            shares = [level / MAX_LEVEL for kind, level in self._at(index)[1] if kind == "looks"]
            yield stream.frame(index, max(shares) if shares else None)
            index += 1

    def _at(self, index: int) -> tuple[Segment, list[tuple[DriftKind, float]]]:
        """Return the segment of a frame and the drifts to apply; during a transition the previous segment fades out."""
        place = next((i for i, segment in enumerate(self.segments) if index < segment.end), len(self.segments) - 1)
        now = self.segments[place]
        share = min(1.0, (index - now.begin + 1) / (now.ramp + 1))
        if place == 0 or share == 1.0:
            return now, [(now.kind, share * now.level)]
        before = self.segments[place - 1]
        if before.kind == now.kind:
            return now, [(now.kind, before.level + share * (now.level - before.level))]
        return now, [(before.kind, (1 - share) * before.level), (now.kind, share * now.level)]
