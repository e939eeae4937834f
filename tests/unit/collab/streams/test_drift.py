"""Drift against its formulas, and the schedule frame by frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeai.collab.config.streams import DriftKind, DriftSegment, StreamConfig, StreetConfig
from edgeai.collab.streams.build import build_stream
from edgeai.collab.streams.drift import KINDS, DriftedStream, apply, schedule
from edgeai.collab.streams.folders import FolderStream, Item
from edgeai.collab.street.drive import StreetStream
from edgeai.core.errors import UsageError

GREY = np.full((90, 120, 3), 128, dtype=np.uint8)
SMALL = StreetConfig(height=32, width=48, num_frames=12)


def test_level_0_and_clear_change_nothing() -> None:
    for kind in KINDS:
        assert np.array_equal(apply(GREY, kind, 0.0, 1), GREY)
    assert np.array_equal(apply(GREY, "clear", 3.0, 1), GREY)


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_picture_and_more_level_more_change(kind: DriftKind) -> None:
    image = StreetStream(StreetConfig(), 1).frame(3).image
    before = image.copy()
    change = [np.abs(apply(image, kind, level, 5).astype(float) - image).mean() for level in (0.5, 1.0, 2.0, 3.0)]
    assert change == sorted(change)
    assert change[0] > 0
    assert np.array_equal(apply(image, kind, 2.0, 5), apply(image, kind, 2.0, 5))
    assert np.array_equal(image, before)


@pytest.mark.parametrize(
    ("level", "gamma", "gain", "noise"), [(1.0, 1.15, 0.8, 0.008), (2.5, 1.375, 0.575, 0.02), (3.0, 1.45, 0.5, 0.024)]
)
def test_night_is_gamma_gain_and_noise(level: float, gamma: float, gain: float, noise: float) -> None:
    dark = apply(GREY, "night", level, 3).astype(float)
    # 32,400 values: five deviations of the mean are 5 * 255 noise / 180; rounding has deviation sqrt(1/12)
    assert dark.mean() == pytest.approx(255 * gain * (128 / 255) ** gamma, abs=5 * 255 * noise / 180 + 0.01)
    assert dark.std() == pytest.approx(np.hypot(255 * noise, 12**-0.5), rel=0.03)


@pytest.mark.parametrize(("level", "beta"), [(1.0, 0.25), (2.0, 0.5), (3.0, 0.9)])
def test_fog_thickens_upwards_or_with_depth(level: float, beta: float) -> None:
    def fogged(depth: float) -> float:
        return float(128 * np.exp(-beta * depth) + 220 * (1 - np.exp(-beta * depth)))

    ramp = apply(GREY, "fog", level, 0)
    assert ramp[0, 0, 0] == pytest.approx(fogged(1.0), abs=0.51)  # rounding
    assert ramp[-1, 0, 0] == pytest.approx(fogged(0.15), abs=0.51)
    depth_m = np.zeros(GREY.shape[:2], dtype=np.float32)
    depth_m[:, 60:] = 1000.0
    exact = apply(GREY, "fog", level, 0, depth_m)
    assert exact[40, 0, 0] == pytest.approx(fogged(0.15), abs=0.51)
    assert exact[40, 100, 0] == pytest.approx(fogged(1.0), abs=0.51)


def test_noise_has_its_deviation() -> None:
    noisy = apply(GREY, "noise", 2.0, 9).astype(float)
    assert noisy.std() == pytest.approx(255 * 0.04, rel=0.03)  # 32,400 values: the estimate deviates by 0.4 %


def test_rain_wets_the_share_that_its_density_says() -> None:
    dry = np.full((360, 480, 3), 100, dtype=np.uint8)
    wet = apply(dry, "rain", 2.0, 4)[..., 0]
    assert set(np.unique(wet)) == {90, 156}  # gain 0.9, and 60 % of the way to 200
    # 15 starts can wet a pixel, each with 0.4 %; pixels of one streak hang together, so the share is rough
    assert (wet == 156).mean() == pytest.approx(1 - (1 - 0.004) ** 15, rel=0.15)


def test_schedule_in_frames() -> None:
    segments = schedule(
        [
            DriftSegment(num_frames=10),
            DriftSegment(kind="night", level=1.5, until_s=4.0, ramp_frames=3),
            DriftSegment(num_frames=5),
            DriftSegment(kind="fog", level=3, name="mist"),
        ],
        rate_hz=5.0,
    )
    assert [(s.name, s.begin, s.end) for s in segments] == [
        ("clear", 0, 10),
        ("night 1.5", 10, 20),
        ("clear (2)", 20, 25),
        ("mist", 25, float("inf")),
    ]


def test_schedule_errors() -> None:
    with pytest.raises(UsageError, match=r'^drift segment "night 2" has no end$'):
        schedule([DriftSegment(kind="night"), DriftSegment()], 5.0)
    with pytest.raises(UsageError, match=r'^drift segment "fog 2" ends at 1 s, before it begins$'):
        schedule([DriftSegment(num_frames=20), DriftSegment(kind="fog", until_s=1.0)], 5.0)
    with pytest.raises(ValueError, match="give num_frames or until_s, not both"):
        DriftSegment(num_frames=1, until_s=2.0)


def test_ramps_hand_over() -> None:
    stream = DriftedStream(
        StreetStream(SMALL, 0),
        [
            DriftSegment(kind="fog", level=2, num_frames=4),
            DriftSegment(kind="night", level=1, num_frames=4, ramp_frames=1),
            DriftSegment(kind="night", level=3, ramp_frames=3),
        ],
        seed=0,
    )
    assert stream._at(3)[1] == [("fog", 2.0)]
    assert stream._at(4)[1] == [("fog", 1.0), ("night", 0.5)]
    assert stream._at(5)[1] == [("night", 1.0)]
    assert [stream._at(index)[1] for index in (8, 9, 10, 11, 500)] == [
        [("night", level)] for level in (1.5, 2.0, 2.5, 3.0, 3.0)
    ]


def test_drifted_stream_repeats_and_names_its_segments() -> None:
    config = StreamConfig(
        source=SMALL,
        drift=(DriftSegment(num_frames=4), DriftSegment(kind="night", num_frames=4), DriftSegment(kind="rain")),
    )
    first, second = list(build_stream(config, 3).frames()), list(build_stream(config, 3).frames())
    assert [f.segment for f in first] == ["clear"] * 4 + ["night 2"] * 4 + ["rain 2"] * 4
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))
    plain = list(StreetStream(SMALL, 3).frames())
    assert all(np.array_equal(a.labels, b.labels) for a, b in zip(first, plain, strict=True))  # type: ignore[arg-type]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first[:4], plain[:4], strict=True))
    assert first[5].image.mean() < 0.75 * plain[5].image.mean()


def test_new_looks_come_from_the_generator() -> None:
    drift = (DriftSegment(num_frames=6), DriftSegment(kind="looks", level=3))
    frames = list(build_stream(StreamConfig(source=SMALL, drift=drift), 3).frames())
    base = list(StreetStream(SMALL, 3).frames())
    new = list(StreetStream(SMALL.model_copy(update={"looks": "new"}), 3).frames())
    for index, frame in enumerate(frames):
        assert np.array_equal(frame.image, (base if index < 6 else new)[index].image)


def test_new_looks_need_the_street(grey_folder: FolderStream) -> None:
    with pytest.raises(UsageError, match=r"^drift of kind looks needs the generated street$"):
        DriftedStream(grey_folder, [DriftSegment(kind="looks")], 0)


@pytest.fixture
def grey_folder(tmp_path: Path) -> FolderStream:
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path)
    return FolderStream([Item("a", path, None)], classes=("a", "b"), label_map={}, size=None, rate_hz=1.0)
