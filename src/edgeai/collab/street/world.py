"""Positions of all objects on the street at a given time, relative to the driving camera.

The street is endless and divided into cells whose content depends only on (seed, cell number). Motion is a closed
formula of time. Any frame can be rendered without earlier ones, and an object keeps its place, looks and size while it
is visible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from edgeai.collab.street.appearance import GROUNDS, LIGHTS
from edgeai.collab.street.cells import OFFSET, Cell, make_car, make_cell
from edgeai.collab.street.scene_objects import FAR_M, Car, Person, Scene
from edgeai.collab.street.textures import CELL_M

BEND_MAX = 0.0012  # 1/m; in sharper bends, inner houses would hide objects that are drawn over them
_BENDS_M = (310.0, 170.0)
_PERSON_FAR_M = 80.0
_CLOSE_M = 40.0  # distance of the camera at which a walker is at its cell's position
_CROSSING_FROM_M = 46.0
_CROSSING_SLOPE = 0.24  # meters sideways per meter of approach
_STEP_HZ = 0.9
_ONCOMING_MPS = 9.0
_ONCOMING_GAP_M = 32.0
_AHEAD_PERIOD_S = 37.0
_NUM_SKIES = 8


class StreetWorld:
    """One street and the drive through it.

    Args:
        seed: Seed of the street.
        speed_mps: Mean speed of the camera.
        light: Key of LIGHTS, or "auto" for a choice by the seed.
    """

    def __init__(self, seed: int, *, speed_mps: float, light: str) -> None:
        rng = np.random.default_rng((seed, 0))
        self._seed = seed
        self._speed_mps = speed_mps
        self._phases = rng.uniform(0, 2 * math.pi, 8)
        self._ground = int(rng.integers(len(GROUNDS)))
        self._mirrored = bool(rng.random() < 0.5)
        self._eye_m = float(rng.uniform(1.25, 1.75))
        chosen = str(rng.choice(list(LIGHTS), p=(0.40, 0.28, 0.16, 0.16)))
        self._light = LIGHTS[chosen if light == "auto" else light]
        self._sun_side = 1 if rng.random() < 0.5 else -1
        self._reach = float(rng.uniform(0.25, 0.9))
        self._sky = int(rng.integers(_NUM_SKIES))
        self._gain = float(rng.uniform(0.9, 1.1))
        self._style = GROUNDS[self._ground]
        self._lane_m = (self._style.half_m - 2.1) / 2  # next to the parked cars
        self._cell = lru_cache(maxsize=64)(self._make_cell)

    def scene(self, time_s: float, new_share: float) -> Scene:
        """Return the scene in view.

        Args:
            time_s: Time since the start of the drive.
            new_share: Share of houses, cars and people with new looks.
        """
        p, t = self._phases, 2 * math.pi * time_s
        z = self._speed_mps * (time_s + 1.6 * math.sin(t / 23 + p[0]))
        x = self._lane_m + 0.25 * math.sin(t / 17 + p[1])
        turns = [2 * math.pi * z / length + phase for length, phase in zip(_BENDS_M, p[2:4], strict=True)]
        turned = sum(length * math.cos(turn) for length, turn in zip(_BENDS_M, turns, strict=True))
        sunny = 0.5 + 0.5 * math.sin(t / 41 + p[6])  # 0: the sun is behind a cloud
        first = math.floor(z / CELL_M)
        cells = [self._cell(number, new_share) for number in range(first - 1, first + int(FAR_M / CELL_M) + 1)]
        return Scene(
            camera_z_m=z,
            camera_x_m=x,
            camera_height_m=self._eye_m,
            bend=0.5 * BEND_MAX * sum(math.sin(turn) for turn in turns),
            pan_rad=-BEND_MAX * turned / (2 * math.pi),  # the integral of the curvature 2 bend along the road
            tilt_rad=0.006 * math.sin(t / 1.7 + p[4]) + 0.008 * math.sin(t / 7.3 + p[5]),
            yaw_rad=0.012 * math.sin(t / 5.9 + p[7]),
            mirrored=self._mirrored,
            light=self._light,
            sun_side=self._sun_side,
            shadow=self._light.sun * (0.35 + 0.65 * sunny),
            reach=self._reach,
            gain=self._gain * (0.94 + 0.10 * sunny),
            sky=self._sky,
            ground=self._ground,
            cells=tuple(cell.ground for cell in cells[1:]),
            walls=tuple(
                replace(a, x_m=a.x_m - x, z0_m=a.z0_m - z, z1_m=a.z1_m - z, along_m=a.along_m + z)
                for cell in cells
                for a in cell.walls
            ),
            trees=tuple(replace(a, x_m=a.x_m - x, z_m=a.z_m - z) for cell in cells for a in cell.trees),
            poles=tuple(replace(a, x_m=a.x_m - x, z_m=a.z_m - z) for cell in cells for a in cell.poles),
            cars=tuple(self._cars(cells, time_s, x, z, new_share)),
            people=tuple(self._people(cells, time_s, x, z)),
        )

    def _make_cell(self, number: int, new_share: float) -> Cell:
        return make_cell(self._seed, number, self._style, new_share)

    def _cars(self, cells: Sequence[Cell], time_s: float, x: float, z: float, new_share: float) -> list[Car]:
        """Return parked cars, oncoming cars, and the car ahead, which the camera approaches."""
        found = [replace(car, x_m=car.x_m - x, z_m=car.z_m - z) for cell in cells for car in cell.cars]
        moved = _ONCOMING_MPS * time_s
        first, last = math.ceil((z - 8 + moved) / _ONCOMING_GAP_M), math.floor((z + FAR_M + moved) / _ONCOMING_GAP_M)
        for number in range(first, last + 1):
            rng = np.random.default_rng((self._seed, 3, number + OFFSET))
            if rng.random() < 0.55:
                at = number * _ONCOMING_GAP_M + rng.uniform(-6, 6) - moved
                found.append(make_car(rng, -self._lane_m + rng.uniform(-0.3, 0.3) - x, at - z, -1, new_share))
        turn, phase = divmod(time_s / _AHEAD_PERIOD_S + self._phases[0], 1.0)
        rng = np.random.default_rng((self._seed, 4, int(turn) + OFFSET))
        gap = 12.0 + 120.0 * (2 * phase - 1) ** 2 + 5.0 * rng.random()  # out of sight when the next car replaces it
        at_x = self._lane_m + rng.uniform(-0.2, 0.2) - x
        found.append(make_car(rng, at_x, gap, 1, new_share, braking=phase < 0.5))
        return [car for car in found if -6.0 < car.z_m < FAR_M]

    def _people(self, cells: Sequence[Cell], time_s: float, x: float, z: float) -> list[Person]:
        found = []
        for cell in cells:
            for person, speed in cell.people:
                at_x, at_z = person.x_m, person.z_m
                if math.isinf(speed):  # crosses while the camera approaches
                    way = _CROSSING_SLOPE * max(0.0, _CROSSING_FROM_M - (at_z - z))
                    at_x -= math.copysign(way, person.x_m)
                else:
                    at_z += speed * (time_s - (person.z_m - _CLOSE_M) / self._speed_mps)
                stride = person.stride + 2 * math.pi * _STEP_HZ * time_s if speed else 0.6
                if 1.0 < at_z - z < _PERSON_FAR_M:
                    found.append(replace(person, x_m=at_x - x, z_m=at_z - z, stride=stride))
        return found
