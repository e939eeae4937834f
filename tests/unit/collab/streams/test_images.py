"""Class colors, painted labels and resizing."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.collab.streams.classes import CAMVID, CITYSCAPES, STREET, TO_STREET, VOC
from edgeai.collab.streams.images import class_colors, paint_labels, resized, voc_color


@pytest.mark.parametrize("classes", [STREET, CAMVID, VOC, ("a", "b", "c")])
def test_class_colors_are_distinct(classes: tuple[str, ...]) -> None:
    assert len(np.unique(class_colors(classes), axis=0)) == len(classes)


def test_voc_colors_by_bits() -> None:
    assert [voc_color(n) for n in (0, 1, 2, 15)] == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (192, 128, 128)]


def test_every_data_set_class_maps_to_a_street_class() -> None:
    assert set(TO_STREET.values()) == set(STREET)
    assert set(CAMVID) <= set(TO_STREET)
    assert set(CITYSCAPES.values()) <= set(TO_STREET)


def test_ignored_pixels_are_painted_black() -> None:
    palette = class_colors(STREET)
    painted = paint_labels(np.array([[0, 255]], dtype=np.uint8), palette)
    assert painted[0, 0].tolist() == palette[0].tolist()
    assert painted[0, 1].tolist() == [0, 0, 0]


def test_resized_labels_have_no_new_values() -> None:
    labels = np.array([[0, 7], [255, 3]], dtype=np.uint8)
    assert np.array_equal(resized(labels, 4, 4, smooth=False), labels.repeat(2, axis=0).repeat(2, axis=1))
