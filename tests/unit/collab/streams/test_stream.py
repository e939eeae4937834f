"""Contact sheets, palettes and the folding of class names."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.collab.config.streams import StreamConfig, StreetConfig
from edgeai.collab.streams.classes import CAMVID, CITYSCAPES, STREET, TO_STREET, VOC, _by_bits, palette_of
from edgeai.collab.streams.stream import build_stream, class_colours, contact_sheet, paint_labels, resized


def test_contact_sheet_shows_frames_above_their_labels() -> None:
    stream = build_stream(StreamConfig(source=StreetConfig(height=32, width=48, num_frames=9)), 1)
    sheet = contact_sheet(stream, every=2, columns=3, scale=2)
    assert sheet.shape == (2 * 2 * 2 * 32, 2 * 3 * 48, 3)  # two rows of three, the last of them empty
    frames = list(stream.frames())
    assert np.array_equal(sheet[:64:2, 96:192:2], frames[2].image)
    assert np.array_equal(sheet[64:128:2, 96:192:2], paint_labels(frames[2].labels, stream.palette))  # type: ignore[arg-type]
    assert (sheet[128:, 192:] == 128).all()


@pytest.mark.parametrize("classes", [STREET, CAMVID, VOC, ("a", "b", "c")])
def test_colours_are_distinct(classes: tuple[str, ...]) -> None:
    assert len(set(palette_of(classes))) == len(classes)


def test_voc_colours_by_bits() -> None:
    assert [_by_bits(n) for n in (0, 1, 2, 15)] == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (192, 128, 128)]


def test_every_street_data_set_folds() -> None:
    assert set(TO_STREET.values()) == set(STREET)
    assert set(CAMVID) <= set(TO_STREET)
    assert set(CITYSCAPES.values()) <= set(TO_STREET)


def test_ignored_pixels_are_black() -> None:
    painted = paint_labels(np.array([[0, 255]], dtype=np.uint8), class_colours(STREET))
    assert painted[0, 0].tolist() == list(palette_of(STREET)[0])
    assert painted[0, 1].tolist() == [0, 0, 0]


def test_labels_are_resized_without_new_values() -> None:
    labels = np.array([[0, 7], [255, 3]], dtype=np.uint8)
    assert np.array_equal(resized(labels, 4, 4, smooth=False), labels.repeat(2, axis=0).repeat(2, axis=1))
