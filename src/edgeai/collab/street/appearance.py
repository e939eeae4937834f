"""Looks of the objects on the street: a set "base" for training, and a set "new" for appearance drift.

Everything here is a literal table; colors are RGB in 0..255, lengths in meters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Color = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True)
class Facade:
    """One style of facade."""

    wall: Color
    glass: Color
    frame: Color
    bay_m: float
    """Distance between windows; must divide 32 m, otherwise the texture has a seam."""
    floor_m: float
    window_w_m: float
    window_h_m: float
    sill_m: float
    """Height of the window above the floor."""
    grain: Literal["plain", "brick", "board", "panel"] = "plain"
    accent: Color = (0, 0, 0)
    ledge: float = 0.0
    """Relative brightness of the ledge between two floors."""
    shops: bool = False


FACADES = (
    Facade((140, 72, 56), (52, 60, 70), (226, 222, 212), 3.2, 3.0, 1.2, 1.5, 0.9, "brick"),
    Facade((176, 146, 104), (58, 64, 72), (238, 236, 228), 3.2, 3.2, 1.3, 1.6, 0.9, "brick", ledge=0.15),
    Facade((214, 208, 196), (62, 72, 84), (120, 96, 72), 4.0, 3.0, 1.5, 1.4, 0.9),
    Facade((222, 204, 160), (56, 62, 70), (240, 238, 230), 3.2, 3.2, 1.2, 1.7, 0.8, ledge=0.10, shops=True),
    Facade((150, 150, 148), (60, 78, 96), (96, 98, 100), 4.0, 3.4, 3.4, 1.7, 0.9, ledge=0.12),
    Facade((186, 172, 146), (48, 54, 62), (206, 196, 174), 4.0, 3.6, 1.5, 2.1, 0.7, ledge=0.18, shops=True),
    Facade((104, 78, 66), (54, 60, 66), (214, 210, 200), 3.2, 3.0, 1.4, 1.4, 0.9, "brick", shops=True),
    Facade((206, 168, 152), (60, 66, 76), (236, 232, 224), 3.2, 3.0, 1.1, 1.6, 0.8),
    Facade((176, 190, 198), (56, 64, 76), (240, 240, 238), 4.0, 3.0, 1.4, 1.5, 0.9),
    Facade((128, 124, 118), (72, 90, 108), (150, 148, 142), 4.0, 3.4, 4.0, 1.5, 1.0, ledge=0.2),
    Facade((92, 52, 46), (50, 58, 68), (232, 230, 224), 3.2, 3.2, 1.3, 1.8, 0.8, "brick", ledge=0.25),
    Facade((166, 160, 150), (46, 52, 58), (130, 124, 114), 3.2, 3.6, 1.2, 2.0, 0.8, ledge=0.12, shops=True),
)
NEW_FACADES = (
    Facade((96, 128, 150), (120, 166, 196), (70, 90, 104), 2.0, 3.4, 1.85, 3.1, 0.2),
    Facade((84, 122, 108), (104, 158, 142), (60, 84, 78), 2.0, 3.4, 1.85, 3.0, 0.2),
    Facade((168, 116, 64), (40, 44, 48), (70, 48, 30), 4.0, 3.0, 2.4, 1.4, 0.8, "board"),
    Facade((178, 40, 36), (210, 200, 170), (60, 60, 62), 8.0, 4.0, 2.2, 1.0, 2.2, "board"),
    Facade((60, 150, 150), (36, 44, 56), (250, 210, 60), 4.0, 3.0, 1.6, 1.5, 0.8, "panel", accent=(236, 96, 120)),
    Facade((232, 232, 230), (40, 46, 54), (40, 42, 44), 4.0, 3.2, 2.6, 1.7, 0.8, "panel", accent=(238, 140, 40)),
    Facade((40, 42, 46), (150, 170, 186), (26, 27, 29), 4.0, 3.4, 3.0, 2.2, 0.6, shops=True),
    Facade((104, 70, 148), (230, 220, 150), (240, 240, 240), 3.2, 3.0, 1.2, 1.2, 1.0, "panel", accent=(70, 170, 220)),
)
PLAIN_WALLS: tuple[tuple[Color, bool], ...] = (
    ((62, 86, 44), True),
    ((146, 104, 84), False),
    ((112, 60, 48), False),
    ((78, 76, 78), False),
)
"""Color and whether it is a plant: hedge, garden wall, red roof, slate roof."""
HEDGE, GARDEN_WALL, RED_ROOF, SLATE_ROOF = (len(FACADES) + len(NEW_FACADES) + index for index in range(4))


@dataclass(frozen=True)
class GroundStyle:
    """Style of road and pavement."""

    road: Color
    pavement: Color
    curb: Color
    half_m: float
    """Distance from the road's center to the curb, parked cars included."""
    pavement_m: float
    slab_m: float
    """Size of the paving slabs; 0: asphalt."""
    dash_m: float
    """Period of the center line; 0: solid line."""
    edge_line: bool
    grain: float


GROUNDS = (
    GroundStyle((108, 108, 112), (150, 146, 140), (176, 174, 170), 4.6, 3.8, 1.0, 10.0, False, 0.07),
    GroundStyle((92, 92, 96), (128, 124, 120), (160, 158, 154), 5.2, 4.4, 0.5, 5.0, True, 0.09),
    GroundStyle((120, 118, 116), (122, 120, 118), (148, 146, 144), 4.3, 3.4, 0.0, 10.0, False, 0.06),
    GroundStyle((112, 108, 106), (166, 140, 122), (178, 170, 160), 4.5, 4.0, 0.5, 0.0, False, 0.08),
    GroundStyle((98, 102, 106), (112, 112, 116), (150, 150, 150), 5.8, 4.8, 2.0, 6.666, True, 0.06),
    GroundStyle((128, 124, 120), (172, 166, 156), (190, 186, 180), 4.4, 3.6, 1.0, 5.0, False, 0.10),
)

GREENS: tuple[Color, ...] = (
    (86, 118, 52),
    (62, 98, 44),
    (108, 126, 58),
    (74, 104, 66),
    (128, 132, 60),
    (52, 82, 48),
)


@dataclass(frozen=True)
class Light:
    """Weather and time of day."""

    sky_top: Color
    sky_low: Color
    cloud: Color
    clear: float
    """Threshold of cloud noise in standard deviations; small values are overcast."""
    sun: float
    """Darkness of shadows, 0 to 1."""
    tint: tuple[float, float, float]
    haze_m: float
    """Distance over which contrast falls to 1/e."""


LIGHTS = {
    "sun": Light((72, 122, 196), (182, 206, 226), (242, 244, 246), 0.7, 0.55, (1.06, 1.03, 0.96), 500.0),
    "overcast": Light((170, 176, 184), (208, 212, 216), (232, 234, 236), -0.8, 0.12, (0.94, 0.97, 1.0), 260.0),
    "evening": Light((98, 120, 172), (242, 198, 150), (250, 214, 180), 0.4, 0.45, (1.08, 0.96, 0.82), 320.0),
    "milky": Light((176, 194, 212), (214, 217, 218), (228, 229, 230), 0.0, 0.30, (1.04, 1.03, 1.0), 180.0),
}


@dataclass(frozen=True)
class CarShape:
    """Shape of a car: its side outline, extruded over its width.

    Points are (meters ahead of the center, meters above the ground), from the rear bumper over the roof to the front.
    """

    outline: tuple[Point, ...]
    glass: tuple[int, ...]
    """Segments of the outline that are windows, by the index of their first point."""
    windows: tuple[tuple[Point, ...], ...]
    """Side windows."""
    wheels: tuple[float, ...]
    width_m: float
    wheel_m: float = 0.33
    """Wheel radius."""
    load: tuple[int, ...] = ()
    """Segments of the outline in the second color."""
    panel: tuple[Point, ...] = ()
    """Part of the side in the second color."""


SEDAN = CarShape(
    ((-2.2, 0.28), (-2.2, 0.86), (-1.5, 0.97), (-0.95, 1.41), (0.35, 1.43), (1.05, 0.97), (2.05, 0.80), (2.2, 0.30)),
    (2, 4),
    (
        ((-1.25, 0.98), (-0.85, 1.34), (-0.25, 1.36), (-0.25, 0.98)),
        ((-0.15, 0.98), (-0.15, 1.36), (0.3, 1.36), (0.8, 0.98)),
    ),
    (-1.35, 1.35),
    1.76,
)
HATCH = CarShape(
    ((-1.9, 0.28), (-1.95, 0.95), (-1.55, 1.44), (0.2, 1.48), (0.95, 1.0), (1.8, 0.82), (1.95, 0.30)),
    (1, 3),
    (((-1.5, 1.0), (-1.35, 1.36), (-0.5, 1.40), (-0.5, 1.0)), ((-0.4, 1.0), (-0.4, 1.40), (0.12, 1.40), (0.7, 1.0))),
    (-1.2, 1.25),
    1.70,
)
ESTATE = CarShape(
    ((-2.3, 0.28), (-2.35, 0.90), (-2.05, 1.44), (0.3, 1.48), (1.05, 0.98), (2.1, 0.82), (2.25, 0.30)),
    (1, 3),
    (((-2.05, 0.99), (-1.9, 1.37), (-0.4, 1.40), (-0.4, 0.99)), ((-0.3, 0.99), (-0.3, 1.40), (0.2, 1.40), (0.8, 0.99))),
    (-1.4, 1.4),
    1.80,
)
SUV = CarShape(
    ((-2.2, 0.36), (-2.25, 1.05), (-1.9, 1.66), (0.3, 1.70), (1.0, 1.12), (2.1, 0.98), (2.2, 0.38)),
    (1, 3),
    (
        ((-1.85, 1.14), (-1.7, 1.58), (-0.5, 1.62), (-0.5, 1.14)),
        ((-0.4, 1.14), (-0.4, 1.62), (0.2, 1.62), (0.75, 1.14)),
    ),
    (-1.35, 1.4),
    1.90,
    0.37,
)
VAN = CarShape(
    ((-2.5, 0.32), (-2.5, 1.25), (-2.4, 1.98), (1.3, 2.02), (1.95, 1.25), (2.45, 1.0), (2.5, 0.34)),
    (1, 3),
    (((0.5, 1.2), (0.5, 1.82), (1.25, 1.82), (1.7, 1.22)),),
    (-1.6, 1.6),
    1.95,
    0.36,
)
PICKUP = CarShape(
    ((-2.6, 0.42), (-2.6, 1.02), (-0.7, 1.02), (-0.55, 1.74), (0.65, 1.78), (1.2, 1.16), (2.4, 1.06), (2.5, 0.42)),
    (2, 4),
    (((-0.42, 1.18), (-0.35, 1.64), (0.55, 1.66), (0.95, 1.18)),),
    (-1.6, 1.6),
    1.96,
    0.42,
    load=(1,),
)
BOX_TRUCK = CarShape(
    ((-3.2, 0.6), (-3.2, 3.1), (1.2, 3.1), (1.25, 2.2), (1.9, 2.15), (2.35, 1.35), (2.6, 1.1), (2.6, 0.45)),
    (4,),
    (((1.35, 1.35), (1.35, 2.0), (1.8, 2.0), (2.1, 1.35)),),
    (-2.0, 1.8),
    2.3,
    0.45,
    load=(0, 1, 2),
    panel=((-3.2, 0.75), (-3.2, 3.1), (1.2, 3.1), (1.2, 0.75)),
)
BUS = CarShape(
    ((-5.4, 0.35), (-5.4, 1.5), (-5.35, 2.6), (-5.2, 3.0), (5.2, 3.0), (5.35, 2.7), (5.4, 1.2), (5.4, 0.35)),
    (1, 5),
    tuple(
        ((-5.0 + 1.7 * n, 1.35), (-5.0 + 1.7 * n, 2.5), (-3.5 + 1.7 * n, 2.5), (-3.5 + 1.7 * n, 1.35)) for n in range(6)
    ),
    (-3.2, 3.4),
    2.5,
    0.48,
    panel=((-5.4, 0.4), (-5.4, 0.85), (5.4, 0.85), (5.4, 0.4)),
)
POD = CarShape(
    ((-1.3, 0.25), (-1.35, 0.9), (-1.1, 1.6), (-0.6, 1.82), (0.5, 1.82), (1.15, 1.45), (1.35, 0.8), (1.3, 0.28)),
    (1, 5),
    (((-1.0, 0.9), (-0.85, 1.55), (0.5, 1.62), (1.0, 0.9)),),
    (-0.85, 0.85),
    1.55,
    0.28,
    load=(2, 3, 4),
    panel=((-1.3, 0.3), (-1.34, 0.62), (1.34, 0.62), (1.3, 0.3)),
)

CAR_SHAPES = (SEDAN, HATCH, ESTATE, SUV, VAN, HATCH, SEDAN)
NEW_CAR_SHAPES = (PICKUP, BOX_TRUCK, POD, POD, BUS, PICKUP)
CAR_COLORS: tuple[Color, ...] = (
    (222, 224, 226),
    (176, 180, 184),
    (120, 124, 130),
    (66, 70, 76),
    (34, 36, 40),
    (134, 28, 30),
    (36, 60, 108),
    (90, 98, 92),
    (196, 190, 176),
)
NEW_CAR_COLORS: tuple[Color, ...] = (
    (244, 190, 24),
    (240, 110, 24),
    (58, 178, 92),
    (224, 66, 140),
    (52, 176, 214),
    (150, 86, 190),
    (238, 236, 120),
)
LOAD_COLORS: tuple[Color, ...] = ((240, 240, 236), (40, 44, 52), (206, 60, 50), (44, 96, 176), (70, 60, 52))


Dress = Literal["plain", "coat", "skirt", "umbrella", "vest", "gown", "pack"]
DRESSES: tuple[Dress, ...] = ("plain", "plain", "coat", "skirt")
NEW_DRESSES: tuple[Dress, ...] = ("umbrella", "vest", "gown", "pack")
CLOTH_COLORS: tuple[Color, ...] = (
    (40, 44, 56),
    (70, 60, 52),
    (128, 124, 120),
    (58, 72, 104),
    (126, 46, 44),
    (182, 174, 160),
    (62, 78, 60),
    (28, 28, 32),
)
NEW_CLOTH_COLORS: tuple[Color, ...] = (
    (246, 226, 40),
    (250, 120, 30),
    (232, 60, 150),
    (80, 214, 190),
    (250, 250, 250),
    (120, 90, 230),
)
TROUSER_COLORS: tuple[Color, ...] = ((44, 52, 74), (36, 36, 40), (92, 84, 74), (70, 78, 92))
SKIN_COLORS: tuple[Color, ...] = ((228, 188, 160), (196, 150, 118), (150, 104, 76), (96, 66, 50))
HAIR_COLORS: tuple[Color, ...] = ((34, 28, 26), (74, 52, 36), (150, 120, 74), (168, 166, 164))
