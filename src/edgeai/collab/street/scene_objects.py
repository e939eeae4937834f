"""Records of the objects on the street.

Axes: x to the right of the road's center, y up, z along the road, in meters. In a `Scene` all x and z are relative to
the camera. Bends are applied during rendering: at distance z the world is shifted sideways by bend * z^2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeai.collab.street.appearance import CarShape, Color, Dress, Light

FAR_M = 110.0
"""Maximum distance of rendered objects; the skyline is beyond."""


@dataclass(frozen=True)
class Wall:
    """A house, hedge or garden wall: a front along the road and a gable towards the camera."""

    x_m: float
    z0_m: float
    z1_m: float
    height_m: float
    roof_m: float
    texture: int
    roof: int
    along_m: float
    """Offset of the texture along the wall, which keeps it fixed to the wall."""
    depth_m: float
    hipped: bool = False
    """The roof slopes on all four sides; otherwise it ends at the neighboring house."""


@dataclass(frozen=True)
class Tree:
    x_m: float
    z_m: float
    height_m: float
    width_m: float
    crown: int


@dataclass(frozen=True)
class Pole:
    kind: Literal["lamp", "round", "triangle", "board", "signal", "post"]
    x_m: float
    z_m: float
    height_m: float
    color: Color


@dataclass(frozen=True)
class Car:
    x_m: float
    z_m: float
    heading: int
    """1: away from the camera, -1: towards it."""
    shape: CarShape
    color: Color
    second: Color
    braking: bool = False


@dataclass(frozen=True)
class Person:
    x_m: float
    z_m: float
    height_m: float
    dress: Dress
    top: Color
    trousers: Color
    skin: Color
    hair: Color
    stride: float
    """Phase of the step in radians."""
    sideways: bool


@dataclass(frozen=True)
class Scene:
    """Content of one frame."""

    camera_z_m: float
    camera_x_m: float
    camera_height_m: float
    bend: float
    pan_rad: float
    tilt_rad: float
    yaw_rad: float
    mirrored: bool
    light: Light
    sun_side: int
    shadow: float
    reach: float
    """Length of a shadow per meter of height."""
    gain: float
    sky: int
    """Index of sky and skyline."""
    ground: int
    """Index of the style of road and pavement."""
    cells: tuple[int, ...]
    """Kind of ground of each cell, starting with the camera's cell."""
    walls: tuple[Wall, ...]
    trees: tuple[Tree, ...]
    poles: tuple[Pole, ...]
    cars: tuple[Car, ...]
    people: tuple[Person, ...]
