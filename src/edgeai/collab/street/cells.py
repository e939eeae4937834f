"""Content of one cell of the street, generated from the street's seed and the cell's number.

A cell is 20 m long; every sixth is a crossroads. Between two crossroads each side of the road is one type of district.
The number of random draws per object does not depend on its looks, so that a street with other looks has the same
objects in the same positions.

Axes as in scene_objects.py; z is counted from the start of the street.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeVar

import numpy as np

from edgeai.collab.street.appearance import (
    CAR_COLORS,
    CAR_SHAPES,
    CLOTH_COLORS,
    DRESSES,
    FACADES,
    GARDEN_WALL,
    HAIR_COLORS,
    HEDGE,
    LOAD_COLORS,
    NEW_CAR_COLORS,
    NEW_CAR_SHAPES,
    NEW_CLOTH_COLORS,
    NEW_DRESSES,
    NEW_FACADES,
    RED_ROOF,
    SKIN_COLORS,
    SLATE_ROOF,
    TROUSER_COLORS,
    GroundStyle,
)
from edgeai.collab.street.scene_objects import Car, Person, Pole, Tree, Wall
from edgeai.collab.street.textures import CELL_M, NUM_CROWNS

OFFSET = 10**6
"""Added to cell numbers, which may be negative, before they seed a generator."""
_CELLS_PER_BLOCK = 6
_WALK_MPS = 1.3
_DISTRICTS = ("terrace", "offices", "houses", "park")
_PLAIN, _ZEBRA, _CROSS = range(3)  # as in textures.CROSSINGS

Rng = np.random.Generator
T = TypeVar("T")
_SIGNS: tuple[Literal["round", "triangle", "board"], ...] = ("round", "triangle", "board")


@dataclass(frozen=True)
class Cell:
    """Content of 20 m of street, in world coordinates; positions of people when the camera is near."""

    ground: int
    """Kind of ground, see textures.ground_atlas."""
    walls: tuple[Wall, ...]
    trees: tuple[Tree, ...]
    poles: tuple[Pole, ...]
    cars: tuple[Car, ...]
    people: tuple[tuple[Person, float], ...]
    """People with their speed along the road; 0: standing, inf: crossing the road."""


def make_cell(seed: int, number: int, style: GroundStyle, new_share: float) -> Cell:
    """Return the content of one cell.

    Args:
        seed: Seed of the street.
        number: Number of the cell; negative numbers are behind the start.
        style: Widths of road and pavement.
        new_share: Share of houses, cars and people with new looks.
    """
    rng = np.random.default_rng((seed, 1, number + OFFSET))
    block, place = divmod(number, _CELLS_PER_BLOCK)
    crossing = _CROSS if place == _CELLS_PER_BLOCK - 1 else (_ZEBRA if rng.random() < 0.15 else _PLAIN)
    z0, edge = number * CELL_M, style.half_m + style.pavement_m
    walls: list[Wall] = []
    trees: list[Tree] = []
    poles: list[Pole] = []
    cars: list[Car] = []
    people: list[tuple[Person, float]] = []
    grass = [False, False]
    for index, side in enumerate((-1, 1)):
        block_rng = np.random.default_rng((seed, 2, block + OFFSET, index))
        district = str(block_rng.choice(_DISTRICTS, p=(0.38, 0.22, 0.24, 0.16)))
        crowding = float(block_rng.choice((0.08, 0.25, 0.45)))
        has_street_trees = bool(block_rng.random() < 0.45) and district != "park"
        if crossing != _CROSS:
            grass[index] = district in ("houses", "park")
            built, planted = _PLANS[district](rng, side, edge, z0, new_share)
            walls += built
            trees += planted
            if has_street_trees:
                trees.append(_tree(rng, side * (style.half_m + 0.9), z0 + rng.uniform(4, 16), rng.uniform(5.5, 8.0)))
            cars += _parked(rng, side, style.half_m - 1.05, z0, crowding, new_share)
        poles += _poles(rng, side, style.half_m, z0, crossing, number)
        people += _walkers(rng, side, style, z0, crossing, new_share)
    ground = crossing * 4 + grass[0] * 2 + grass[1]
    return Cell(ground, tuple(walls), tuple(trees), tuple(poles), tuple(cars), tuple(people))


def make_car(rng: Rng, x: float, z: float, heading: int, new_share: float, *, braking: bool = False) -> Car:
    """Return a car of random shape and color."""
    is_new, shape, color, second = rng.random() < new_share, rng.random(), rng.random(), rng.random()
    return Car(
        x_m=x,
        z_m=z,
        heading=heading,
        shape=_pick(NEW_CAR_SHAPES if is_new else CAR_SHAPES, shape),
        color=_pick(NEW_CAR_COLORS if is_new else CAR_COLORS, color),
        second=_pick(LOAD_COLORS, second),
        braking=braking,
    )


def _pick(choices: Sequence[T], part: float) -> T:
    return choices[int(part * len(choices))]


def _terrace(rng: Rng, side: int, edge: float, z0: float, new_share: float) -> tuple[list[Wall], list[Tree]]:
    """Return terraced houses."""
    cuts = sorted({0.0, *np.round(rng.uniform(5, 15, int(rng.integers(1, 3))), 1).tolist(), CELL_M})
    walls = []
    for start, end in pairwise(cuts):
        height = 3.1 * int(rng.integers(2, 5)) + rng.uniform(0.3, 1.2)
        roof = rng.uniform(1.2, 2.4) if rng.random() < 0.7 else 0.0
        walls.append(_house(rng, side * edge, (z0 + start, z0 + end), height, roof, new_share))
    return walls, []


def _offices(rng: Rng, side: int, edge: float, z0: float, new_share: float) -> tuple[list[Wall], list[Tree]]:
    """Return one tall block."""
    height = 3.4 * int(rng.integers(4, 9)) + 1.0
    return [_house(rng, side * edge, (z0, z0 + CELL_M), height, 0.0, new_share)], []


def _houses(rng: Rng, side: int, edge: float, z0: float, new_share: float) -> tuple[list[Wall], list[Tree]]:
    """Return detached houses behind a front garden with a hedge or a wall."""
    start, setback = z0 + rng.uniform(1.0, 4.0), rng.uniform(2.5, 4.0)
    height, roof = 3.0 * int(rng.integers(1, 3)) + 0.6, rng.uniform(2.0, 3.0)
    span = (start, start + rng.uniform(8.5, 12.5))
    walls = [_house(rng, side * (edge + setback), span, height, roof, new_share, hipped=True)]
    if rng.random() < 0.75:
        walls.append(_fence(rng, side * edge, z0 + 0.5, z0 + 17.0))
    trees = []
    for _ in range(int(rng.integers(1, 4))):
        x, z = side * (edge + rng.uniform(1.2, 9.0)), z0 + rng.uniform(14.0, 19.5)
        trees.append(_tree(rng, x, z, rng.uniform(3.0, 7.5)))
    return walls, trees


def _park(rng: Rng, side: int, edge: float, z0: float, new_share: float) -> tuple[list[Wall], list[Tree]]:
    """Return trees on grass; the park does not depend on the looks."""
    trees = []
    for _ in range(int(rng.integers(4, 8))):
        x, z = side * (edge + 1.5 + 12.0 * rng.random() ** 1.5), z0 + rng.uniform(0, CELL_M)
        trees.append(_tree(rng, x, z, rng.uniform(4.0, 11.0)))
    return [_fence(rng, side * edge, z0, z0 + CELL_M)] if rng.random() < 0.3 else [], trees


_PLANS = {"terrace": _terrace, "offices": _offices, "houses": _houses, "park": _park}


def _house(
    rng: Rng, x: float, span: tuple[float, float], height: float, roof: float, new_share: float, *, hipped: bool = False
) -> Wall:
    is_new, which = rng.random() < new_share, rng.random()
    texture = len(FACADES) + int(which * len(NEW_FACADES)) if is_new else int(which * len(FACADES))
    tiles = RED_ROOF if rng.random() < 0.5 else SLATE_ROOF
    along = 4.0 * int(rng.integers(8)) - span[0]
    return Wall(
        x, *span, height, 0.0 if is_new else roof, texture, tiles, along, depth_m=9.0 if hipped else 12.0, hipped=hipped
    )


def _fence(rng: Rng, x: float, z0: float, z1: float) -> Wall:
    texture = HEDGE if rng.random() < 0.6 else GARDEN_WALL
    height = rng.uniform(0.9, 1.7) if texture == HEDGE else rng.uniform(0.6, 1.1)
    return Wall(x, z0, z1, height, 0.0, texture, texture, -z0, depth_m=0.6)


def _tree(rng: Rng, x: float, z: float, height: float) -> Tree:
    return Tree(x, z, height, height * rng.uniform(0.6, 0.95), int(rng.integers(NUM_CROWNS)))


def _parked(rng: Rng, side: int, x: float, z0: float, crowding: float, new_share: float) -> list[Car]:
    """Return up to three parked cars, mostly in the direction of their lane."""
    heading = side if rng.random() < 0.9 else -side
    found = []
    for place in range(3):
        if rng.random() < crowding:
            at = z0 + 3.4 + 6.4 * place + rng.uniform(-0.4, 0.4)
            found.append(make_car(rng, side * x + rng.uniform(-0.12, 0.12), at, heading, new_share))
    return found


def _poles(rng: Rng, side: int, half: float, z0: float, crossing: int, number: int) -> list[Pole]:
    """Return lamp posts on alternating sides, signs and bollards; signals at crossroads."""
    gray = int(rng.integers(60, 150))
    metal = (gray, gray + 2, gray + 4)
    x = side * (half + 0.45)
    if crossing == _CROSS:
        return [Pole("signal", x, z0 + 1.6, 3.4, (46, 48, 50)), Pole("board", x, z0 + 17.5, 2.9, metal)]
    found = []
    if (number + (side > 0)) % 2 == 0:
        found.append(Pole("lamp", x, z0 + 9.0, rng.uniform(6.0, 8.0), metal))
    if rng.random() < 0.45:
        sign = _SIGNS[int(rng.integers(3))]
        found.append(Pole(sign, x + side * 0.1, z0 + rng.uniform(1, 19), rng.uniform(2.3, 2.9), metal))
    if rng.random() < 0.18:
        found += [Pole("post", x, z0 + 12 + 1.6 * place, 0.95, (58, 58, 60)) for place in range(4)]
    return found


def _walkers(
    rng: Rng, side: int, style: GroundStyle, z0: float, crossing: int, new_share: float
) -> list[tuple[Person, float]]:
    """Return people on one pavement, and sometimes a person who crosses the road."""
    found = []
    for _ in range(int(rng.choice(4, p=(0.15, 0.30, 0.30, 0.25)))):
        speed = (0.0, _WALK_MPS, -_WALK_MPS)[int(rng.choice(3, p=(0.2, 0.4, 0.4)))] * rng.uniform(0.7, 1.2)
        x = side * (style.half_m + 0.5 + rng.uniform(0, style.pavement_m - 1.0))
        found.append((_person(rng, x, z0 + rng.uniform(0, CELL_M), new_share, sideways=False), speed))
    if crossing == _ZEBRA or (crossing == _PLAIN and rng.random() < 0.06):
        x, z = side * (style.half_m + rng.uniform(0.2, 3.5)), z0 + 10 + rng.uniform(-1.3, 1.3)
        found.append((_person(rng, x, z, new_share, sideways=True), math.inf))
    return found


def _person(rng: Rng, x: float, z: float, new_share: float, *, sideways: bool) -> Person:
    is_new, parts = rng.random() < new_share, rng.random(5)
    return Person(
        x_m=x,
        z_m=z,
        height_m=rng.uniform(1.05, 1.4) if rng.random() < 0.12 else rng.uniform(1.58, 1.9),
        dress=_pick(NEW_DRESSES if is_new else DRESSES, parts[0]),
        top=_pick(NEW_CLOTH_COLORS if is_new else CLOTH_COLORS, parts[1]),
        trousers=_pick(TROUSER_COLORS, parts[2]),
        skin=_pick(SKIN_COLORS, parts[3]),
        hair=_pick(HAIR_COLORS, parts[4]),
        stride=rng.uniform(0, 2 * math.pi),
        sideways=sideways,
    )
