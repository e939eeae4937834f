"""Rendering of sky, ground, walls, tree crowns and shadows.

Surfaces are textured by intersecting lines of sight with planes, so texture, class and depth of a pixel are exact. Far
walls are painted first and near ones over them; crowns are painted last with a depth test for every pixel.

Shapes: R rows and K columns of the fine canvas, r and k of a part of it, H and W of the frame.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from edgeai.collab.street.scene_objects import FAR_M, Scene, Tree, Wall
from edgeai.collab.street.textures import (
    CELL_M,
    CROWN_PX,
    GROUND_HALF_M,
    GROUND_PX_PER_M,
    PANORAMA_PX,
    WALL_PX,
    WALL_PX_PER_M,
    crowns,
    ground_atlas,
    panorama,
    wall_atlas,
)
from edgeai.collab.street.view import FINE, NEAR_M, View

Array = np.ndarray

_CELL_PX = int(CELL_M * GROUND_PX_PER_M)
_GROUND_PX = int(2 * GROUND_HALF_M * GROUND_PX_PER_M)
_SHADED_SIDE = 0.74
_UNDER_CAR = 0.45
_PITCH = 1.1  # slope of a hipped roof at its ends


def paint_sky(view: View, scene: Scene) -> None:
    """Paint sky and skyline: a section of the panorama with its last row on the horizon."""
    rows = math.ceil(view.rows * 0.6)
    sky = panorama(scene.light, scene.sky, rows)
    last = min(round(view.horizon), rows, view.rows)
    start = round((scene.pan_rad + scene.yaw_rad) * view.focal_px) % PANORAMA_PX
    columns = np.arange(start, start + view.columns) % PANORAMA_PX
    view.texels[:last] = np.take(sky[rows - last :], columns, axis=1)


def paint_ground(view: View, scene: Scene) -> None:
    """Paint road, pavement and grass below the horizon."""
    first = max(round(view.horizon), 0)
    if first >= view.rows:
        return
    rows = np.arange(first, view.rows) + 0.5
    z = view.focal_px * view.eye_m / np.maximum(rows - view.horizon, 0.35)
    step_m = z * z / (view.focal_px * view.eye_m)  # length of road in one row
    level = np.where(step_m < 0.35, 0, np.where(step_m < 2.0, 1, 2))
    along = np.minimum(z, FAR_M) + scene.camera_z_m
    cell = np.floor(along / CELL_M).astype(np.int64)
    kinds = np.asarray(scene.cells)
    kind = kinds[np.clip(cell - math.floor(scene.camera_z_m / CELL_M), 0, len(kinds) - 1)]
    row = np.minimum(((along - cell * CELL_M) * GROUND_PX_PER_M).astype(np.int64), _CELL_PX - 1)
    atlas = ground_atlas(scene.ground)
    base = ((level * atlas.shape[1] + kind) * _CELL_PX + row) * _GROUND_PX  # [r]
    slope = z / view.focal_px * GROUND_PX_PER_M
    left = (scene.camera_x_m - view.bend * np.minimum(z, FAR_M) ** 2 + GROUND_HALF_M) * GROUND_PX_PER_M + slope * (
        0.5 - view.center
    )
    across = left[:, None].astype(np.float32) + slope[:, None].astype(np.float32) * np.arange(
        view.columns, dtype=np.float32
    )
    np.clip(across, 0, _GROUND_PX - 1, out=across)
    index = across.astype(np.int32)
    index += base[:, None].astype(np.int32)
    view.texels[first:] = np.take(atlas.reshape(-1), index)
    view.depth[first:] = z[:, None]


def paint_walls(view: View, scene: Scene) -> None:
    """Paint houses, hedges and garden walls, farthest first."""
    visible = [wall for wall in scene.walls if wall.z1_m > NEAR_M and wall.z0_m < FAR_M]
    for wall in sorted(visible, key=lambda wall: (-wall.z0_m, -abs(wall.x_m))):
        if wall.z0_m > NEAR_M:
            _paint_gable(view, wall)
        _paint_front(view, wall, _SHADED_SIDE if wall.x_m * scene.sun_side > 0 else 1.0)


def _paint_gable(view: View, wall: Wall) -> None:
    """Paint the wall that faces the camera."""
    z, outer = wall.z0_m, wall.x_m + math.copysign(wall.depth_m, wall.x_m)
    c0, c1 = sorted((view.column(wall.x_m, z), view.column(outer, z)))
    columns = np.arange(max(math.ceil(c0 - 0.5), 0), min(math.ceil(c1 - 0.5), view.columns))
    top = view.row(wall.height_m + wall.roof_m, z)
    rows = np.arange(max(math.ceil(top - 0.5), 0), min(math.ceil(view.row(0, z) - 0.5), view.rows))
    if not len(rows) or not len(columns):
        return
    x = ((columns + 0.5 - view.center) / view.focal_px - view.bend * z) * z
    v = view.eye_m + (view.horizon - rows - 0.5) * z / view.focal_px
    level = _level(z / view.focal_px * WALL_PX_PER_M)
    k = (x * WALL_PX_PER_M).astype(np.int64) % WALL_PX
    r = np.clip((v * WALL_PX_PER_M).astype(np.int64), 0, WALL_PX - 1)
    part = _darker(wall_atlas()[wall.texture, level][r[:, None], k[None]], 0.86)
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    if wall.hipped:
        inside = np.abs(x - wall.x_m)
        rise = np.minimum(wall.roof_m, _PITCH * (wall.depth_m - inside))
        part = np.where(
            v[:, None] < wall.height_m, part, _darker(wall_atlas()[wall.roof, level][r[:, None], k[None]], 0.86)
        )
        is_wall = v[:, None] < wall.height_m + rise
        np.copyto(view.texels[box], part, where=is_wall)
        np.copyto(view.depth[box], np.float32(z), where=is_wall)
    else:
        view.texels[box] = part
        view.depth[box] = z


def _paint_front(view: View, wall: Wall, light: float) -> None:
    """Paint the wall along the road, and the roof above it as a vertical surface."""
    x = wall.x_m
    near, far = max(wall.z0_m, NEAR_M), min(wall.z1_m, FAR_M)
    if view.bend * x > 0:
        far = min(far, 0.98 * math.sqrt(x / view.bend))  # beyond, the bend hides the wall
    if far <= near:
        return
    c0, c1 = sorted((view.column(x, near), view.column(x, far)))
    columns = np.arange(max(math.ceil(c0 - 0.5), 0), min(math.ceil(c1 - 0.5), view.columns))
    if not len(columns):
        return
    z = np.clip(view.distance(x, columns), near, far)
    tall = wall.height_m + wall.roof_m
    nearest = float(z.min())
    row0 = max(math.ceil(view.row(tall, nearest) - 0.5), 0) if tall > view.eye_m else max(math.floor(view.horizon), 0)
    row1 = min(math.ceil(view.row(0, nearest) - 0.5), view.rows)
    if row1 <= row0:
        return
    scale = (z / view.focal_px).astype(np.float32)
    top_px = view.horizon - 0.5 - np.arange(row0, row1, dtype=np.float32)
    v = top_px[:, None] * scale
    v += np.float32(view.eye_m)
    step = np.gradient(z) if len(z) > 1 else np.zeros(1)
    level = np.where(np.abs(step) < 0.3, 0, np.where(np.abs(step) < 1.2, 1, 2))
    u = ((z + wall.along_m) * WALL_PX_PER_M).astype(np.int64) % WALL_PX
    atlas = wall_atlas()
    base = ((wall.texture * atlas.shape[1] + level) * WALL_PX * WALL_PX + u).astype(np.int32)
    limit = np.full(len(z), tall)
    if wall.hipped:
        limit = wall.height_m + np.minimum(wall.roof_m, _PITCH * (wall.z1_m - z))
    is_wall = (v >= 0) & (v < limit.astype(np.float32))
    index = np.clip(v * np.float32(WALL_PX_PER_M), 0, WALL_PX - 1).astype(np.int32)
    index *= WALL_PX
    index += base
    if wall.roof_m:
        index += (v >= wall.height_m) * np.int32((wall.roof - wall.texture) * atlas.shape[1] * WALL_PX * WALL_PX)
    part = np.take(atlas.reshape(-1), index)
    if light < 1.0:
        part = _darker(part, light)
    box = (slice(row0, row1), slice(columns[0], columns[-1] + 1))
    np.copyto(view.texels[box], part, where=is_wall)
    np.copyto(view.depth[box], z.astype(np.float32)[None], where=is_wall)


def _level(texels_per_px: float) -> int:
    """Return the texture level that does not alias at this number of texels per pixel."""
    return 0 if texels_per_px < 2.5 else (1 if texels_per_px < 9 else 2)


def _darker(texels: Array, light: float) -> Array:
    """Scale the colors of packed texels and keep the class; two channels share one integer product."""
    factor = np.uint32(round(light * 256))
    even = ((texels & np.uint32(0x00FF00FF)) * factor >> np.uint32(8)) & np.uint32(0x00FF00FF)
    odd = ((texels >> np.uint32(8) & np.uint32(0xFF)) * factor) & np.uint32(0xFF00)
    return np.asarray(even | odd | (texels & np.uint32(0xFF000000)))


def paint_crowns(view: View, trees: tuple[Tree, ...]) -> None:
    """Paint the crowns of all trees, farthest first, where nothing is nearer."""
    sprites = crowns()
    for tree in sorted(trees, key=lambda tree: -tree.z_m):
        if not 1.5 < tree.z_m < FAR_M:
            continue
        z = tree.z_m
        half = view.focal_px * tree.width_m / 2 / z
        middle = view.column(tree.x_m, z)
        top, bottom = view.row(tree.height_m, z), view.row(tree.height_m * 0.26, z)
        rows = np.arange(max(math.ceil(top - 0.5), 0), min(math.ceil(bottom - 0.5), view.rows))
        columns = np.arange(max(math.ceil(middle - half - 0.5), 0), min(math.ceil(middle + half - 0.5), view.columns))
        if not len(rows) or not len(columns):
            continue
        r = ((rows + 0.5 - top) * (CROWN_PX / (bottom - top))).astype(np.int64)
        k = ((columns + 0.5 - middle + half) * (CROWN_PX / (2 * half))).astype(np.int64)
        part = sprites[tree.crown][np.clip(r, 0, CROWN_PX - 1)[:, None], np.clip(k, 0, CROWN_PX - 1)[None]]
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        is_seen = (part > 0) & (view.depth[box] > z)
        np.copyto(view.texels[box], part, where=is_seen)
        np.copyto(view.depth[box], np.float32(z), where=is_seen)


def ground_light(view: View, scene: Scene) -> Array:
    """Return the light on the ground, 1 without shadow [H, W] float32."""
    image = Image.new("L", (view.columns // FINE, view.rows // FINE), 200)
    draw = ImageDraw.Draw(image)
    shade = int(200 * (1 - scene.shadow))
    away = -scene.sun_side

    def cast(corners: list[tuple[float, float]], value: int) -> None:
        points = [view.point(x, 0.0, z) for x, z in corners]
        draw.polygon([(column / FINE, row / FINE) for column, row in points], fill=value)

    for wall in scene.walls:
        if wall.x_m * scene.sun_side > 0 and wall.z1_m > NEAR_M and wall.height_m > 2:
            reach = wall.x_m + away * scene.reach * (wall.height_m + wall.roof_m)
            near, far = max(wall.z0_m, NEAR_M), wall.z1_m
            steps = [near + (far - near) * part / 3 for part in range(4)]  # in a bend, straight edges become curves
            cast([(wall.x_m, z) for z in steps] + [(reach, z - 2.0) for z in reversed(steps)], shade)
    for tree in scene.trees:
        if tree.z_m > 2.0:
            x, half = tree.x_m + away * scene.reach * tree.height_m, tree.width_m * 0.55
            cast([(x + half * math.cos(a), tree.z_m - 1 + half * math.sin(a)) for a in np.arange(0, 6.2, 0.52)], shade)
    for pole in scene.poles:
        if pole.z_m > 2.0:
            tip = pole.x_m + away * scene.reach * pole.height_m
            cast(
                [(pole.x_m, pole.z_m - 0.1), (pole.x_m, pole.z_m + 0.1), (tip, pole.z_m - 1.9), (tip, pole.z_m - 2.1)],
                shade,
            )
    for person in scene.people:
        tip = person.x_m + away * scene.reach * person.height_m
        cast([(person.x_m - 0.15, person.z_m), (person.x_m + 0.15, person.z_m), (tip, person.z_m - 0.4)], shade)
    for car in scene.cars:
        half, length = car.shape.width_m / 2, car.shape.outline[-1][0]
        for side, value in ((0.9 * scene.shadow * away, shade), (0.0, int(200 * _UNDER_CAR))):
            x0, x1 = car.x_m - half + min(side, 0), car.x_m + half + max(side, 0)
            z0, z1 = max(car.z_m - length - 0.1, NEAR_M), max(car.z_m + length, NEAR_M)
            cast([(x0, z0), (x1, z0), (x1, z1), (x0, z1)], value)
    return np.asarray(image, dtype=np.float32) / np.float32(200)
