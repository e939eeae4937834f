"""Rendering of objects as polygons: cars, people, poles and tree trunks.

Each function draws one object; `draw_objects` calls them farthest first.
"""

from __future__ import annotations

import math

from edgeai.collab.street.appearance import Color, Point
from edgeai.collab.street.scene_objects import Car, Person, Pole, Scene, Tree
from edgeai.collab.street.textures import CAR, PEDESTRIAN, POLE, TREE
from edgeai.collab.street.view import NEAR_M, Pen

_DETAIL_M = 55.0  # beyond this distance, wheels, lamps and side windows are smaller than a pixel
_GLASS: Color = (52, 62, 74)
_TIRE: Color = (26, 26, 28)
_BARK: Color = (82, 66, 50)


def draw_objects(pen: Pen, scene: Scene) -> None:
    """Draw all objects on road and pavement, farthest first."""
    things: list[Car | Person | Pole | Tree] = [*scene.cars, *scene.people, *scene.poles, *scene.trees]
    for thing in sorted(things, key=lambda thing: -thing.z_m):
        if isinstance(thing, Car):
            _draw_car(pen, thing)
        elif thing.z_m > NEAR_M:
            if isinstance(thing, Person):
                _draw_person(pen, thing)
            elif isinstance(thing, Pole):
                _draw_pole(pen, thing, math.copysign(1.0, -thing.x_m - scene.camera_x_m))
            else:
                _draw_trunk(pen, thing)


def _lit(color: Color, light: float) -> Color:
    red, green, blue = color
    return min(int(red * light), 250), min(int(green * light), 250), min(int(blue * light), 250)


def _draw_car(pen: Pen, car: Car) -> None:
    view, shape, half = pen.view, car.shape, car.shape.width_m / 2
    outline = [(car.z_m + car.heading * ahead, up) for ahead, up in shape.outline]
    if max(z for z, _ in outline) < NEAR_M or not pen.begin(CAR, max(car.z_m, NEAR_M)):
        return
    left = [view.point(car.x_m - half, up, z) for z, up in outline]
    right = [view.point(car.x_m + half, up, z) for z, up in outline]
    is_close = car.z_m < _DETAIL_M
    if is_close:
        _draw_tires_behind(pen, car)
    pieces = range(len(outline) - 1)
    for index in reversed(pieces) if car.heading > 0 else pieces:
        (z0, up0), (z1, up1) = outline[index], outline[index + 1]
        color = car.second if index in shape.load else car.color
        flat = abs(z1 - z0) / (math.hypot(z1 - z0, up1 - up0) + 1e-6)
        light = 0.78 + 0.34 * flat * (1 if up0 + up1 > 1.2 else 0)
        color = _lit(_GLASS, 0.9 + 0.5 * flat) if index in shape.glass else _lit(color, light)
        pen.polygon([left[index], right[index], right[index + 1], left[index + 1]], color)
    if is_close:
        _draw_end(pen, car)
    if abs(car.x_m) > half:
        _draw_side(pen, car, left if car.x_m > 0 else right, is_close)


def _draw_tires_behind(pen: Pen, car: Car) -> None:
    """Draw the visible part of the tires below the bumper."""
    length, half = abs(car.shape.outline[0][0]) - 0.45, car.shape.width_m / 2
    z, up = max(car.z_m - length, NEAR_M), car.shape.outline[0][1] + 0.1
    for inner, outer in ((half - 0.26, half - 0.02), (-half + 0.02, -half + 0.26)):
        x0, x1 = car.x_m + inner, car.x_m + outer
        pen.polygon([pen.view.point(*p) for p in ((x0, 0, z), (x1, 0, z), (x1, up, z), (x0, up, z))], _TIRE)


def _draw_end(pen: Pen, car: Car) -> None:
    """Draw lamps, plate and bumper of the end that faces the camera."""
    shape, half = car.shape, car.shape.width_m / 2
    (ahead, low), (_, high) = (
        (shape.outline[0], shape.outline[1]) if car.heading > 0 else (shape.outline[-1], shape.outline[-2])
    )
    z = car.z_m + car.heading * ahead
    if z < NEAR_M + 0.2:
        return
    tall = high - low

    def patch(x0: float, x1: float, y0: float, y1: float, color: Color) -> None:
        corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
        pen.polygon([pen.view.point(car.x_m + x, low + y * tall, z) for x, y in corners], color)

    patch(-half, half, 0.0, 0.22, _lit(car.color, 0.45))
    lamp = ((226, 40, 34) if car.braking else (158, 24, 24)) if car.heading > 0 else (246, 244, 226)
    patch(-half + 0.06, -half + 0.36, 0.58, 0.86, lamp)
    patch(half - 0.36, half - 0.06, 0.58, 0.86, lamp)
    patch(-0.26, 0.26, 0.34, 0.52, (222, 220, 206))
    if car.heading < 0:
        patch(-half + 0.45, half - 0.45, 0.55, 0.80, (40, 42, 46))


def _draw_side(pen: Pen, car: Car, outline: list[tuple[float, float]], is_close: bool) -> None:
    """Draw the long side, with windows and wheels."""
    view, shape = pen.view, car.shape
    x = car.x_m - math.copysign(shape.width_m / 2, car.x_m)
    pen.polygon(outline, _lit(car.color, 0.90))

    def piece(points: tuple[Point, ...]) -> list[tuple[float, float]]:
        return [view.point(x, up, car.z_m + car.heading * ahead) for ahead, up in points]

    if shape.panel:
        pen.polygon(piece(shape.panel), _lit(car.second, 0.90))
    for window in shape.windows:
        pen.polygon(piece(window), _GLASS)
    if not is_close:
        return
    low = shape.outline[0][1]
    pen.polygon(piece(((-1.9, low), (-1.9, low + 0.12), (1.9, low + 0.12), (1.9, low))), _lit(car.color, 0.5))
    for ahead in shape.wheels:
        z = car.z_m + car.heading * ahead
        if z - shape.wheel_m < NEAR_M:
            continue
        for size, color in ((shape.wheel_m, _TIRE), (shape.wheel_m * 0.55, (150, 152, 156))):
            c0, c1 = view.column(x, z - size), view.column(x, z + size)
            tall = view.focal_px * size / z
            row = view.row(shape.wheel_m, z)
            pen.disc((c0 + c1) / 2, row, max(abs(c1 - c0) / 2, 0.5), tall, color)


def _draw_person(pen: Pen, person: Person) -> None:
    """Draw a person in proportion to its height: legs, clothes, arms, head, and carried objects."""
    view, z, tall = pen.view, person.z_m, person.height_m
    if not pen.begin(PEDESTRIAN, z):
        return
    scale = view.focal_px / z * tall
    foot, middle = view.row(0.0, z), view.column(person.x_m, z)

    def shape(points: tuple[Point, ...], color: Color) -> None:
        pen.polygon([(middle + x * scale, foot - y * scale) for x, y in points], color)

    swing = math.sin(person.stride) * (0.14 if person.sideways else 0.04)
    stand = 0.01 if person.sideways else 0.045
    for side, light in ((-1, 0.75), (1, 1.0)):
        x, end = side * stand, side * (stand + swing)
        shape(
            ((x - 0.05, 0.5), (x + 0.05, 0.5), (end + 0.035, 0.03), (end - 0.035, 0.03)), _lit(person.trousers, light)
        )
        shape(((end - 0.04, 0.035), (end + 0.05, 0.035), (end + 0.05, 0.0), (end - 0.04, 0.0)), (30, 28, 28))
    wide = 0.085 if person.sideways else 0.125
    hem, flare = {"coat": (0.30, 0.13), "skirt": (0.28, 0.14), "gown": (0.04, 0.20)}.get(person.dress, (0.46, 0.10))
    if person.dress == "pack":
        shape(((-0.17, 0.84), (0.17, 0.84), (0.18, 0.52), (-0.18, 0.52)), (40, 110, 190))
    for side in (-1, 1):
        hand = side * (wide + 0.03) - side * swing * 0.9
        shape(
            ((side * wide - 0.03, 0.80), (side * wide + 0.03, 0.80), (hand + 0.025, 0.44), (hand - 0.025, 0.44)),
            _lit(person.top, 0.82),
        )
        shape(((hand - 0.022, 0.46), (hand + 0.022, 0.46), (hand + 0.02, 0.41), (hand - 0.02, 0.41)), person.skin)
    shape(((-wide, 0.82), (wide, 0.82), (flare, hem), (-flare, hem)), person.top)
    if person.dress == "skirt":
        shape(((-0.10, 0.55), (0.10, 0.55), (flare, hem), (-flare, hem)), person.trousers)
    if person.dress == "vest":
        shape(((-wide, 0.70), (wide, 0.70), (wide, 0.65), (-wide, 0.65)), (240, 240, 236))
    shape(((-0.03, 0.86), (0.03, 0.86), (0.03, 0.81), (-0.03, 0.81)), person.skin)
    head = 0.066 * scale if tall > 1.45 else 0.085 * scale
    pen.disc(middle, foot - 0.925 * scale, head * 0.88, head * 1.08, person.skin)
    pen.disc(middle, foot - 0.955 * scale, head * 0.9, head * 0.75, person.hair)
    if person.dress == "umbrella":
        arc = [(0.42 * math.cos(a / 8 * math.pi), 0.93 + 0.24 * math.sin(a / 8 * math.pi)) for a in range(9)]
        shape(tuple(arc), person.top)
        shape(((-0.42, 0.93), (-0.14, 0.96), (-0.14, 1.15), (-0.30, 1.09)), _lit(person.top, 0.7))


def _draw_pole(pen: Pen, pole: Pole, inwards: float) -> None:
    """Draw a lamp post, sign, signal or bollard; `inwards` is the sign of the direction to the road's center."""
    view, x, z, tall = pen.view, pole.x_m, pole.z_m, pole.height_m
    if not pen.begin(POLE, z):
        return
    thick = {"lamp": 0.085, "signal": 0.075, "post": 0.07}.get(pole.kind, 0.045)

    def box(x0: float, x1: float, y0: float, y1: float, color: Color) -> None:
        pen.polygon([view.point(*p, z) for p in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))], color)

    box(x - thick, x + thick, 0.0, tall, pole.color)
    if z < 25:
        box(x - thick, x - thick * 0.3, 0.0, tall, _lit(pole.color, 1.3))
    if pole.kind == "lamp":
        box(x, x + inwards * 1.5, tall - 0.14, tall, pole.color)
        box(x + inwards * 1.1, x + inwards * 1.9, tall - 0.22, tall - 0.04, (206, 204, 190))
    elif pole.kind == "signal":
        box(x - 0.17, x + 0.17, tall - 0.95, tall, (30, 32, 34))
        for up, color in ((0.8, (224, 46, 38)), (0.48, (90, 70, 24)), (0.16, (24, 70, 44))):
            size = view.focal_px * 0.11 / z
            pen.disc(view.column(x, z), view.row(tall - 0.95 + up, z), size, size, color)
    elif pole.kind == "board":
        box(x - 0.42, x + 0.42, tall - 0.6, tall, (36, 82, 160))
        box(x - 0.30, x + 0.30, tall - 0.38, tall - 0.24, (226, 228, 230))
    elif pole.kind == "round":
        for size_m, color in ((0.36, (196, 36, 38)), (0.25, (232, 230, 226))):
            size = view.focal_px * size_m / z
            pen.disc(view.column(x, z), view.row(tall - 0.3, z), size, size, color)
    elif pole.kind == "triangle":
        for size_m, color in ((0.45, (200, 40, 40)), (0.28, (236, 232, 220))):
            corners = (
                (x - size_m, tall - 0.3 - size_m * 0.6),
                (x + size_m, tall - 0.3 - size_m * 0.6),
                (x, tall - 0.3 + size_m),
            )
            pen.polygon([view.point(*p, z) for p in corners], color)


def _draw_trunk(pen: Pen, tree: Tree) -> None:
    if not pen.begin(TREE, tree.z_m):
        return
    thick = 0.02 * tree.height_m + 0.04
    view, x, z, top = pen.view, tree.x_m, tree.z_m, tree.height_m * 0.55
    corners = ((x - thick, 0.0), (x + thick, 0.0), (x + thick * 0.6, top), (x - thick * 0.6, top))
    pen.polygon([view.point(*p, z) for p in corners], _BARK)
