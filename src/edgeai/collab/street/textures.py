"""Textures of the street: facades, ground, tree crowns and sky, generated once and cached.

Every texture is a pure function of its arguments, so that all of them can be cached for the whole process. A texel is
one uint32, three bytes of color and one byte of class, so every lookup is a single gather. Blurred copies of the same
size ("levels") replace a mip pyramid, without which far surfaces would alias.

Shapes: T walls, L levels, V kinds of ground, R rows, K columns.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edgeai.collab.streams.classes import STREET
from edgeai.collab.street.appearance import (
    FACADES,
    GREENS,
    GROUNDS,
    NEW_FACADES,
    PLAIN_WALLS,
    Facade,
    GroundStyle,
    Light,
)

Array = np.ndarray

CLASSES = STREET
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, CAR, PEDESTRIAN = range(8)

WALL_PX = 256
WALL_PX_PER_M = 8.0  # a wall texture covers 32 m and repeats
GROUND_PX_PER_M = 10.0
CELL_M = 20.0  # length of one cell
GROUND_HALF_M = 16.0  # half width of the ground texture; its border is repeated beyond
CROWN_PX = 128
NUM_CROWNS = 24
PANORAMA_PX = 1024
_PANORAMA_ROWS = 154
CROSSINGS = ("plain", "zebra", "cross")


def fractal(rng: np.random.Generator, height: int, width: int, slope: float) -> Array:
    """Return tileable noise with spectrum 1/f^slope, mean 0 and standard deviation 1 [height, width] float32."""
    spectrum = np.fft.rfft2(rng.standard_normal((height, width)))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width)
    frequency[0, 0] = np.inf
    values = np.fft.irfft2(spectrum / frequency**slope, s=(height, width))
    return np.asarray((values - values.mean()) / values.std(), dtype=np.float32)


def pack(color: Array, label: Array | int) -> Array:
    """Pack colors [..., 3] in 0..255 and classes [...] into one uint32 per texel."""
    texels = np.empty((*color.shape[:-1], 4), dtype=np.uint8)
    texels[..., :3] = np.clip(color, 0, 255)
    texels[..., 3] = label
    return texels.view(np.uint32)[..., 0]


@lru_cache(maxsize=1)
def wall_atlas() -> Array:
    """Return all walls [T, L=3, R, K] uint32: base facades, new facades, then hedge, garden wall and roofs."""
    walls = [_facade(style, index) for index, style in enumerate((*FACADES, *NEW_FACADES))]
    walls += [_plain_wall(color, index) for index, (color, _) in enumerate(PLAIN_WALLS)]
    labels = [BUILDING] * (len(FACADES) + len(NEW_FACADES))
    labels += [TREE if is_plant else BUILDING for _, is_plant in PLAIN_WALLS]
    return np.stack(
        [
            np.stack([pack(_box(wall, size, size), label) for size in (1, 5, 15)])
            for wall, label in zip(walls, labels, strict=True)
        ]
    )


def _box(values: Array, rows: int, columns: int) -> Array:
    """Return the mean over a window with wrap-around; odd sizes keep it centerd."""
    for axis, size in ((0, rows), (1, columns)):
        if size > 1:
            padded = np.concatenate([values, np.take(values, range(size), axis=axis)], axis=axis)
            sums = np.cumsum(padded, axis=axis, dtype=np.float32)
            count = values.shape[axis]
            upper, lower = np.arange(size, count + size), np.arange(count)
            values = (np.take(sums, upper, axis=axis) - np.take(sums, lower, axis=axis)) / size
            values = np.roll(values, size // 2 + 1, axis=axis)
    return values


def _facade(style: Facade, index: int) -> Array:
    """Return one facade, with row 0 at the ground [R, K, 3] float."""
    rng = np.random.default_rng((7, index))
    meters = (np.arange(WALL_PX) + 0.5) / WALL_PX_PER_M
    up, along = meters[:, None], meters[None]
    wall = np.ones((WALL_PX, WALL_PX, 1)) * np.array(style.wall, dtype=float)
    wall *= 1.0 + 0.05 * fractal(rng, WALL_PX, WALL_PX, 1.2)[..., None]
    if style.grain == "brick":
        bricks = np.repeat(np.repeat(rng.normal(0, 0.07, (WALL_PX // 2, WALL_PX // 4)), 2, axis=0), 4, axis=1)
        bricks[2::4], bricks[3::4] = np.roll(bricks[2::4], 2, axis=1), np.roll(bricks[3::4], 2, axis=1)
        wall *= 1.0 + bricks[..., None]
    if style.grain == "board":
        wall *= 1.0 + 0.10 * np.sign(np.sin(2 * np.pi * along / 0.5))[..., None]
    if style.grain == "panel":
        tiles = rng.integers(0, 3, (16, 16)).repeat(16, axis=0).repeat(16, axis=1)
        wall = np.where((tiles == 0)[..., None], np.array(style.accent, dtype=float), wall)

    floor, bay = np.floor(up / style.floor_m), np.floor(along / style.bay_m)
    in_floor, in_bay = up - floor * style.floor_m, np.abs(along - (bay + 0.5) * style.bay_m)
    has_pane = (in_bay < style.window_w_m / 2) & (
        np.abs(in_floor - style.sill_m - style.window_h_m / 2) < style.window_h_m / 2
    )
    has_frame = (in_bay < style.window_w_m / 2 + 0.16) & (
        np.abs(in_floor - style.sill_m - style.window_h_m / 2) < style.window_h_m / 2 + 0.16
    )
    ledge = (in_floor < 0.2) & (up > 1.0)
    wall = np.where(ledge[..., None] & (style.ledge > 0), wall * (1 + style.ledge), wall)
    frame = np.array(style.frame, dtype=float)
    wall = np.where(has_frame[..., None], frame, wall)
    which = rng.random((16, 16))[np.minimum(floor, 15).astype(int), np.minimum(bay, 15).astype(int)]
    pane = np.array(style.glass, dtype=float) * (0.75 + 0.5 * in_floor / style.floor_m)[..., None]
    pane = np.where((which > 0.72)[..., None], pane * 0.45 + np.array([215, 208, 190]) * 0.5, pane)  # a curtain
    pane = np.where((which < 0.12)[..., None], pane * 0.6, pane)  # an open window
    wall = np.where(has_pane[..., None], pane, wall)
    mullion = has_pane & (in_bay < 0.07)
    wall = np.where(mullion[..., None], frame * 0.9, wall)
    return np.clip(_ground_floor(wall, style, rng, up, along), 4, 250)


def _ground_floor(wall: Array, style: Facade, rng: np.random.Generator, up: Array, along: Array) -> Array:
    """Add shops with awnings, or a door in every third bay."""
    bay = np.floor(along / style.bay_m)
    in_bay = np.abs(along - (bay + 0.5) * style.bay_m)
    if style.shops:
        shop = np.floor(along / (2 * style.bay_m)).astype(int)
        in_shop = np.abs(along - (shop + 0.5) * 2 * style.bay_m)
        signs = rng.integers(30, 220, (16, 3)).astype(float)[np.minimum(shop, 15)]
        goods = 60 + 40 * fractal(rng, WALL_PX, WALL_PX, 0.8)[..., None] * np.array([1.0, 0.8, 0.6])
        wall = np.where((up < 3.4)[..., None], np.array(style.wall, dtype=float) * 0.8, wall)
        wall = np.where(((up > 0.5) & (up < 2.5) & (in_shop < style.bay_m - 0.25))[..., None], goods, wall)
        return np.where(((up > 2.6) & (up < 3.3) & (in_shop < style.bay_m - 0.1))[..., None], signs, wall)
    door = (bay % 3 == 1) & (up < 2.25) & (in_bay < 0.62)
    panel = (bay % 3 == 1) & (up < 2.1) & (in_bay < 0.46)
    color = rng.integers(25, 150, 3).astype(float)
    wall = np.where((up < 0.45)[..., None], wall * 0.72, wall)  # the plinth
    wall = np.where(door[..., None], np.array(style.frame, dtype=float), wall)
    return np.where(panel[..., None], color, wall)


def _plain_wall(color: tuple[int, int, int], index: int) -> Array:
    """Return a hedge, garden wall or roof: one color with a grain."""
    rng = np.random.default_rng((8, index))
    grain = fractal(rng, WALL_PX, WALL_PX, 0.7)
    up = (np.arange(WALL_PX) + 0.5)[:, None] / WALL_PX_PER_M
    courses = 0.08 * np.sign(np.sin(2 * np.pi * up / 0.5)) if index > 0 else 0.0
    strength = 0.22 if index == 0 else 0.08
    return np.clip(np.array(color, dtype=float) * (1.0 + strength * grain + courses)[..., None], 4, 250)


@lru_cache(maxsize=len(GROUNDS))
def ground_atlas(style_index: int) -> Array:
    """Return the ground of one style [L=3, V=12, R=200, K=320] uint32.

    V indexes crossing (plain, zebra, cross) times left side (paved, grass) times right side (paved, grass).
    """
    style = GROUNDS[style_index]
    rng = np.random.default_rng((9, style_index))
    rows, columns = int(CELL_M * GROUND_PX_PER_M), int(2 * GROUND_HALF_M * GROUND_PX_PER_M)
    fine, coarse = fractal(rng, rows, columns, 0.4), fractal(rng, rows, columns, 1.4)
    along = (np.arange(rows)[:, None] + 0.5) / GROUND_PX_PER_M
    across = (np.arange(columns)[None] + 0.5) / GROUND_PX_PER_M - GROUND_HALF_M
    kinds = []
    for crossing in CROSSINGS:
        for left in (False, True):
            for right in (False, True):
                kinds.append(_ground(style, crossing, (left, right), along, across, fine, coarse))
    levels = [
        np.stack([pack(_box(color, size, 1 if size == 1 else 3), label) for color, label in kinds])
        for size in (1, 9, 41)
    ]
    return np.stack(levels)


def _ground(
    style: GroundStyle, crossing: str, grass: tuple[bool, bool], along: Array, across: Array, fine: Array, coarse: Array
) -> tuple[Array, Array]:
    """Return colors [R, K, 3] and classes [R, K] of one kind of ground, seen from above."""
    side, half = np.abs(across), style.half_m
    shape = (along.shape[0], across.shape[1])
    grain = (1.0 + style.grain * fine + 0.05 * coarse)[..., None]
    color = np.array(style.road, dtype=float) * grain
    tracks = np.minimum(np.abs(side - half / 2 + 0.9), np.abs(side - half / 2 - 0.9)) < 0.35
    color = np.where(tracks[..., None], color * 0.94, color)
    label = np.full(shape, ROAD, dtype=np.uint8)
    paint = np.zeros(shape, dtype=bool)
    if crossing != "cross":
        dashed = (along % style.dash_m < style.dash_m * 0.45) if style.dash_m else along > -1
        paint |= (side < 0.09) & dashed
        if style.edge_line:
            paint |= np.abs(side - (half - 2.1)) < 0.07
    if crossing == "zebra":
        paint |= (np.abs(along - 10) < 1.8) & (across % 1.0 < 0.5) & (side < half - 0.3)
    if crossing == "cross":
        paint |= ((np.abs(along - 2.2) < 0.2) | (np.abs(along - 17.8) < 0.2)) & (side < half - 0.3)
    color = np.where(paint[..., None], np.array([208, 206, 198]) * (1.0 + 0.08 * fine[..., None]), color)

    is_pavement = np.broadcast_to(side > half, shape)
    if crossing == "cross":  # the side street: road over the whole width
        is_pavement = is_pavement & (np.abs(along - 10) > 5.0)
    slabs = ((across % style.slab_m < 0.1) | (along % style.slab_m < 0.1)) if style.slab_m else np.zeros(shape, bool)
    pavement = np.array(style.pavement, dtype=float) * grain * np.where(slabs, 0.86, 1.0)[..., None]
    color = np.where(is_pavement[..., None], pavement, color)
    label = np.where(is_pavement, PAVEMENT, label).astype(np.uint8)
    curb = is_pavement & (side < half + 0.22)
    color = np.where(curb[..., None], np.array(style.curb, dtype=float) * grain, color)
    for sign, is_grass in zip((-1, 1), grass, strict=True):
        if is_grass and crossing != "cross":
            lawn = np.broadcast_to(sign * across > half + style.pavement_m, shape)
            green = np.array([84, 112, 52], dtype=float) * (1.0 + 0.16 * fine + 0.12 * coarse)[..., None]
            color = np.where(lawn[..., None], green, color)
            label = np.where(lawn, TREE, label).astype(np.uint8)
    return np.clip(color, 4, 250), label


@lru_cache(maxsize=1)
def crowns() -> Array:
    """Return tree crowns seen from the side [NUM_CROWNS, CROWN_PX, CROWN_PX] uint32; 0 without leaf."""
    return np.stack([_crown(index) for index in range(NUM_CROWNS)])


def _crown(index: int) -> Array:
    rng = np.random.default_rng((10, index))
    y, x = (np.mgrid[:CROWN_PX, :CROWN_PX] + 0.5) / CROWN_PX * 2 - 1
    field = np.full(x.shape, -1.0)
    bulk = np.zeros(x.shape)
    slender = index % 4 == 3
    for _ in range(5 if slender else 9):
        cx, cy = rng.uniform(-0.18, 0.18) if slender else rng.uniform(-0.5, 0.5), rng.uniform(-0.55, 0.5)
        radius = rng.uniform(0.30, 0.42)
        inside = 1.0 - np.hypot((x - cx) * (1.5 if slender else 1.0), y - cy) / radius
        bulk = np.where(inside > field, -0.5 * (y - cy) / radius - 0.25 * (x - cx) / radius, bulk)
        field = np.maximum(field, inside)
    leaves, clumps = fractal(rng, CROWN_PX, CROWN_PX, 0.5), fractal(rng, CROWN_PX, CROWN_PX, 1.3)
    field -= 3.0 * np.maximum(np.maximum(np.abs(x), np.abs(y)) - 0.82, 0)
    is_leaf = field + 0.10 * leaves + 0.16 * clumps > 0.12
    shade = 0.85 + 0.32 * bulk + 0.13 * leaves + 0.12 * clumps - 0.15 * y
    color = np.array(GREENS[index % len(GREENS)], dtype=float) * np.clip(shade, 0.3, 1.6)[..., None]
    return np.where(is_leaf, pack(color, TREE), 0).astype(np.uint32)


@lru_cache(maxsize=32)
def panorama(light: Light, variant: int, rows: int) -> Array:
    """Return a panorama of sky and skyline [rows, PANORAMA_PX] uint32; the last row is on the horizon."""
    rng = np.random.default_rng((11, variant))
    height = np.arange(rows, 0, -1)[:, None] / rows  # 1 at the top, 0 on the horizon
    low, top = np.array(light.sky_low, dtype=float), np.array(light.sky_top, dtype=float)
    sky = low + (top - low) * (height**0.7)[..., None]
    clouds = fractal(rng, 512, PANORAMA_PX, 1.7)[np.linspace(0, 340, rows).astype(int)]
    cover = np.clip((clouds - light.clear) * 0.9, 0, 1)[..., None] * 0.75
    sky = np.broadcast_to(sky, (rows, PANORAMA_PX, 3)) * (1 - cover) + np.array(light.cloud, dtype=float) * cover
    label = np.zeros((rows, PANORAMA_PX), dtype=np.uint8)
    up = height * _PANORAMA_ROWS
    for color, kind, tops in _skyline(rng):
        is_far = up <= tops[None]
        tint = np.array(color, dtype=float) * (1 + 0.08 * fractal(rng, rows, PANORAMA_PX, 0.8))[..., None]
        sky = np.where(is_far[..., None], tint * 0.62 + low * 0.38, sky)
        label = np.where(is_far, kind, label).astype(np.uint8)
    return pack(sky, label)


def _skyline(rng: np.random.Generator) -> list[tuple[tuple[int, int, int], int, Array]]:
    """Return color, class and height per column of the far layers, farthest first, in rows of the full panorama."""
    blocks = np.zeros(PANORAMA_PX)
    at = 0
    while at < PANORAMA_PX:
        width = int(rng.integers(10, 46))
        blocks[at : at + width] = rng.integers(6, 30) if rng.random() < 0.75 else 0
        at += width
    ridge = 9 + 4.0 * fractal(rng, 8, PANORAMA_PX, 1.1)[0]
    return [((128, 120, 112), BUILDING, blocks), ((70, 88, 58), TREE, np.maximum(ridge, 2))]
