"""Drift laid over a stream: night, fog, rain, blur, sensor noise, and things that look new.

Levels run from 0 (nothing) to 3. The constants of night, fog and rain at levels 1, 2 and 3 are those that were measured
to lower a segmentation network step by step without destroying it; between levels they are interpolated. Blur and
noise are ours. All of it works on pictures alone, except that fog takes exact depth where the frame has it, and that
new looks are made by the generated street.

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
"""What `apply` does to a picture; the other two kinds leave it as it is."""
MAX_LEVEL = 3.0
_LEVELS = (0.0, 1.0, 2.0, 3.0)
_NIGHT_GAMMA = (1.0, 1.15, 1.3, 1.45)
_NIGHT_GAIN = (1.0, 0.8, 0.65, 0.5)
_NIGHT_NOISE = (0.0, 0.008, 0.016, 0.024)
_FOG_BETA = (0.0, 0.25, 0.5, 0.9)
_FOG_NEAR, _AIRLIGHT = 0.15, 220.0
_FOG_DEPTH_M = 25.0  # exact depth is mapped into the ramp's range: 0.15 at the camera, 1 far away
_RAIN_DENSITY = (0.0, 0.002, 0.004, 0.008)
_RAIN_GAIN, _STREAK_LIGHT, _STREAK_ALPHA = 0.9, 200.0, 0.6
_STREAK_PX, _STREAK_HEIGHT_PX = 15, 360  # a streak of 15 pixels in a picture of 360 rows
_BLUR_FRAC = (0.0, 0.004, 0.008, 0.014)  # deviation in heights of the frame
_NOISE = (0.0, 0.02, 0.04, 0.08)


def apply(
    image: Array, kind: DriftKind, level: float, seed: int | tuple[int, ...], depth_m: Array | None = None
) -> Array:
    """A drifted copy of a picture.

    Args:
        image: [H, W, 3] uint8.
        kind: One of KINDS; "clear" and "looks" leave the picture as it is.
        level: 0 to 3.
        seed: Of noise and raindrops; give each frame its own.
        depth_m: [H, W]; None takes fog from a vertical ramp, far at the top.

    Returns:
        [H, W, 3] uint8.
    """
    if kind not in KINDS or level <= 0:
        return image
    if kind == "blur":
        sigma_px = _at(level, _BLUR_FRAC) * image.shape[0]
        return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma_px)))
    rng = np.random.default_rng(seed)
    colours: Array = image.astype(np.float32)
    if kind == "night":
        dark = np.float32(255 * _at(level, _NIGHT_GAIN)) * (colours / 255) ** np.float32(_at(level, _NIGHT_GAMMA))
        colours = _noisy(dark, _at(level, _NIGHT_NOISE), rng)
    elif kind == "noise":
        colours = _noisy(colours, _at(level, _NOISE), rng)
    elif kind == "fog":
        clear = np.exp(-np.float32(_at(level, _FOG_BETA)) * _fog_depth(image.shape[:2], depth_m))[..., None]
        colours = colours * clear + np.float32(_AIRLIGHT) * (1 - clear)
    else:
        drops = _streaks(image.shape[:2], _at(level, _RAIN_DENSITY), rng)[..., None]
        gain = 1 - (1 - _RAIN_GAIN) * min(level, 1.0)
        colours = colours * np.float32(gain)
        colours += (np.float32(_STREAK_LIGHT) - colours) * (np.float32(_STREAK_ALPHA) * drops)
    return np.clip(colours + np.float32(0.5), 0, 255).astype(np.uint8)


def _at(level: float, constants: tuple[float, ...]) -> float:
    return float(np.interp(level, _LEVELS, constants))


def _noisy(colours: Array, deviation: float, rng: np.random.Generator) -> Array:
    noise = rng.standard_normal(colours.shape, dtype=np.float32)
    return np.asarray(colours + noise * np.float32(255 * deviation), dtype=np.float32)


def _fog_depth(shape: tuple[int, ...], depth_m: Array | None) -> Array:
    """How much fog lies before each pixel, 0.15 to 1, broadcastable to [H, W]."""
    if depth_m is None:
        return np.linspace(1.0, _FOG_NEAR, shape[0], dtype=np.float32)[:, None]
    return np.asarray(_FOG_NEAR + (1 - _FOG_NEAR) * (1 - np.exp(depth_m / np.float32(-_FOG_DEPTH_M))))


def _streaks(shape: tuple[int, ...], density: float, rng: np.random.Generator) -> Array:
    """1 on raindrops, which fall a little aslant, else 0 [H, W] float32."""
    height, width = shape
    length = max(3, round(_STREAK_PX * height / _STREAK_HEIGHT_PX))
    starts = rng.random((height + length, width + length)) < density * _STREAK_PX / length  # the same share gets wet
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
    """First frame after it; infinite for the last."""
    ramp: int
    """Frames over which it takes over from the segment before."""


def schedule(segments: Sequence[DriftSegment], rate_hz: float) -> list[Segment]:
    """Turns lengths and times into frame numbers and gives every segment a name of its own.

    Raises:
        UsageError: A segment but the last has no end, or ends before it begins.
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
            raise UsageError(f'drift segment "{name}" has no end', hint="give it num_frames or until_s")
        found.append(Segment(name, item.kind, item.level, begin, end, item.ramp_frames))
        begin = int(end) if not math.isinf(end) else begin
    return found


class DriftedStream:
    """Another stream with drift laid over it; the last segment goes on to the end.

    Args:
        stream: Any stream.
        segments: What happens when.
        seed: Of noise and raindrops.

    Raises:
        UsageError: The schedule is wrong, or asks for new looks of a stream that is not the generated street.
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
        """Frames that the stream below had to leave out."""
        return self._stream.problems

    def frames(self) -> Iterator[Frame]:
        """The frames of the stream below, drifted."""
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
        """The segment of a frame, and what to apply: while it ramps up, the one before fades."""
        place = next((i for i, segment in enumerate(self.segments) if index < segment.end), len(self.segments) - 1)
        now = self.segments[place]
        share = min(1.0, (index - now.begin + 1) / (now.ramp + 1))
        if place == 0 or share == 1.0:
            return now, [(now.kind, share * now.level)]
        before = self.segments[place - 1]
        if before.kind == now.kind:
            return now, [(now.kind, before.level + share * (now.level - before.level))]
        return now, [(before.kind, (1 - share) * before.level), (now.kind, share * now.level)]
