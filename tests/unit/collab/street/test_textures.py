"""Textures of the generated street: noise, packing, blurring and content of the atlases."""

from __future__ import annotations

import numpy as np

from edgeai.collab.street.appearance import FACADES, GROUNDS, HEDGE, LIGHTS, NEW_FACADES
from edgeai.collab.street.backdrop import _darker
from edgeai.collab.street.textures import (
    BUILDING,
    PANORAMA_PX,
    PAVEMENT,
    ROAD,
    SKY,
    TREE,
    WALL_PX,
    WALL_PX_PER_M,
    _box,
    crowns,
    fractal,
    ground_atlas,
    pack,
    panorama,
    wall_atlas,
)


def labels_of(texels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(texels).view(np.uint8).reshape(*texels.shape, 4)[..., 3]


def test_noise_has_mean_0_and_deviation_1_and_tiles() -> None:
    noise = fractal(np.random.default_rng(0), 64, 96, 1.5)
    assert abs(noise.mean()) < 1e-4
    assert abs(noise.std() - 1) < 1e-4
    inside = np.abs(np.diff(noise, axis=1)).mean()
    seam = np.abs(noise[:, 0] - noise[:, -1]).mean()
    assert seam < 2 * inside  # unrelated columns would differ by about 1, neighbors by a tenth


def test_box_is_the_mean_of_a_window_that_wraps() -> None:
    values = np.random.default_rng(1).random((7, 9, 2))
    expected = np.mean(
        [np.roll(values, (dy, dx), axis=(0, 1)) for dy in (-1, 0, 1) for dx in (-2, -1, 0, 1, 2)], axis=0
    )
    np.testing.assert_allclose(_box(values, 3, 5), expected, atol=1e-5)  # sums in float32


def test_darker_scales_colors_and_keeps_the_class() -> None:
    rng = np.random.default_rng(2)
    colors = rng.integers(0, 251, (5, 6, 3))
    label = rng.integers(0, 8, (5, 6))
    dark = np.ascontiguousarray(_darker(pack(colors, label), 0.5)).view(np.uint8).reshape(5, 6, 4)
    assert np.array_equal(dark[..., :3], colors // 2)
    assert np.array_equal(dark[..., 3], label)


def test_facades_repeat_without_a_seam() -> None:
    for style in (*FACADES, *NEW_FACADES):
        windows = WALL_PX / WALL_PX_PER_M / style.bay_m
        assert abs(windows - round(windows)) < 1e-9, style


def test_walls_are_buildings_and_hedges_are_plants() -> None:
    labels = labels_of(wall_atlas())
    assert (labels[: len(FACADES) + len(NEW_FACADES)] == BUILDING).all()
    assert (labels[HEDGE] == TREE).all()


def test_ground_has_road_pavement_and_grass_where_asked() -> None:
    for index in range(len(GROUNDS)):
        labels = labels_of(ground_atlas(index)[0])  # [V, R, K]
        middle, rim = labels.shape[2] // 2, labels.shape[2] - 1
        assert (labels[:, :, middle] == ROAD).all()
        paved, grass = labels[0], labels[3]
        assert (paved[:, rim] == PAVEMENT).all()
        assert (grass[:, [0, rim]] == TREE).all()
        cross = labels[8, :, rim]
        assert cross[100] == ROAD  # the middle of the side street
        assert cross[0] == PAVEMENT


def test_crowns_have_leaves_and_holes_but_touch_no_edge() -> None:
    is_leaf = crowns() > 0
    share = is_leaf.mean(axis=(1, 2))
    assert share.min() > 0.08
    assert share.max() < 0.8
    assert not is_leaf[:, [0, -1]].any()
    assert not is_leaf[:, :, [0, -1]].any()


def test_the_skyline_stands_on_the_horizon() -> None:
    labels = labels_of(panorama(LIGHTS["sun"], 0, 80))
    assert labels.shape == (80, PANORAMA_PX)
    assert (labels[-1] != SKY).all()
    assert (labels[:30] == SKY).all()
    assert {BUILDING, TREE} <= set(np.unique(labels))
