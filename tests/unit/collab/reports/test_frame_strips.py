"""Strips show the label maps that were kept, in the colours of their classes."""

import io

import numpy as np
import pytest
from PIL import Image

from edgeai.collab.reports.frame_strips import DIFFERENT, MAX_STRIPS, color_key, disagreement, overlay_strips, spread
from edgeai.collab.streams.images import class_colors

CLASSES = ("sky", "road", "car")


@pytest.fixture
def folder(tmp_path):
    """A run that kept two frames: of the second the cloud said nothing."""
    (tmp_path / "overlays").mkdir()
    frame = np.full((4, 6, 3), 90, np.uint8)
    edge = np.zeros((4, 6), np.uint8)
    fused = edge.copy()
    fused[0, :2] = 2
    truth = np.full((4, 6), 255, np.uint8)
    np.savez_compressed(
        tmp_path / "overlays" / "000003.npz",
        frame=frame,
        truth=truth,
        edge=edge,
        semantics=edge,
        fused=fused,
        shown=edge,
    )
    np.savez_compressed(tmp_path / "overlays" / "000012.npz", frame=frame, edge=edge, shown=edge)
    return tmp_path


def pixels(image):
    return np.asarray(Image.open(io.BytesIO(image)))


def test_a_strip_has_what_was_kept(folder):
    full, short = overlay_strips(folder, CLASSES, {3: "day."})
    assert [image.label for image in full.images] == [
        "frame",
        "edge",
        "cloud",
        "fused with masks",
        "truth",
        "edge and cloud differ",
    ]
    assert [image.label for image in short.images] == ["frame", "edge"]
    assert (full.caption, short.caption) == ("Frame 3: day.", "Frame 12")
    fused, truth = pixels(full.images[3].image), pixels(full.images[4].image)
    colours = class_colors(CLASSES)
    assert (fused[0, 0] == colours[2]).all()
    assert (fused[3, 5] == colours[0]).all()
    assert not truth.any()  # ignored pixels are black


def test_disagreement_is_red_where_labels_differ_and_counts_no_ignored_pixel():
    frame = np.zeros((1, 3, 3), np.uint8)
    picture = disagreement(frame, np.array([[0, 1, 1]], np.uint8), np.array([[0, 2, 255]], np.uint8))
    assert (picture[0, 1] == DIFFERENT).all()
    assert (picture[0, 0] == picture[0, 2]).all()
    assert len(set(picture[0, 0].tolist())) == 1  # grey


def test_a_page_never_has_more_than_a_few_strips():
    chosen = spread(list(range(100)), MAX_STRIPS)
    assert (len(chosen), chosen[0]) == (MAX_STRIPS, 0)
    assert chosen == sorted(set(chosen))
    assert spread([1, 2], MAX_STRIPS) == [1, 2]


def test_the_key_names_all_classes():
    image = color_key(CLASSES).image
    assert all(f">{name}<" in image for name in CLASSES)


def test_no_pictures_no_strips(tmp_path):
    assert overlay_strips(tmp_path, CLASSES, {}) == []
