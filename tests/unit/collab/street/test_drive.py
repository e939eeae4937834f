"""The generated street: geometry of single objects against hand-computed pixels, and motion."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgeai.collab.config.streams import StreetConfig
from edgeai.collab.street.appearance import CAR_SHAPES, GROUNDS, LIGHTS, NEW_CAR_SHAPES
from edgeai.collab.street.cells import make_cell
from edgeai.collab.street.drive import StreetStream, _render, street_scene
from edgeai.collab.street.scene_objects import Car, Person, Pole, Scene, Tree, Wall
from edgeai.collab.street.textures import BUILDING, CAR, CLASSES, PEDESTRIAN, POLE, ROAD, SKY, TREE
from edgeai.collab.street.world import _ONCOMING_MPS, StreetWorld

HEIGHT, WIDTH = 64, 96
FOCAL_PX = 0.95 * WIDTH
HORIZON = 32  # half of the height
EMPTY = Scene(
    camera_z_m=5.0,
    camera_x_m=0.0,
    camera_height_m=1.5,
    bend=0.0,
    pan_rad=0.0,
    tilt_rad=0.0,
    yaw_rad=0.0,
    mirrored=False,
    light=LIGHTS["sun"],
    sun_side=1,
    shadow=0.5,
    reach=0.5,
    gain=1.0,
    sky=0,
    ground=0,
    cells=(0,) * 7,
    walls=(),
    trees=(),
    poles=(),
    cars=(),
    people=(),
)
PERSON = Person(0.0, 8.0, 1.8, "plain", (200, 0, 0), (0, 0, 200), (200, 160, 130), (0, 0, 0), 0.6, False)


def draw(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _render(scene, HEIGHT, WIDTH, (0,))


def extent(mask: np.ndarray, axis: int) -> tuple[int, int]:
    """First row or column of a mask, and the one after its last."""
    places = np.flatnonzero(mask.any(axis=1 - axis))
    return int(places[0]), int(places[-1]) + 1


def test_an_empty_street_is_sky_over_road_with_the_depth_of_a_plane() -> None:
    _, labels, depth = draw(EMPTY)
    assert (labels[:20] == SKY).all()
    assert labels[-1, WIDTH // 2] == ROAD
    rows = np.arange(40, HEIGHT)
    # a label is the sample a quarter of a pixel below the middle: 0.75 of a row
    expected = FOCAL_PX * 1.5 / (rows + 0.75 - HORIZON)
    np.testing.assert_allclose(depth[40:, WIDTH // 2], expected, rtol=1e-5)


def test_the_curb_is_where_the_ground_style_says() -> None:
    _, labels, _ = draw(EMPTY)
    row = 44
    z = FOCAL_PX * 1.5 / (row + 0.75 - HORIZON)
    curb = WIDTH / 2 + GROUNDS[0].half_m * FOCAL_PX / z
    road = extent((labels == ROAD)[row : row + 1], axis=1)
    assert curb < WIDTH
    assert road[1] == pytest.approx(curb, abs=1.5)  # a texel is 0.1 m, which is 1 pixel here, and half a pixel to round
    assert road[0] == pytest.approx(WIDTH - curb, abs=1.5)


def test_a_person_is_as_tall_as_the_distance_says() -> None:
    _, labels, depth = draw(dataclasses.replace(EMPTY, people=(PERSON,)))
    found = labels == PEDESTRIAN
    top, bottom = extent(found, axis=0)
    assert bottom == pytest.approx(HORIZON + FOCAL_PX * 1.5 / 8, abs=1)
    assert bottom - top == pytest.approx(FOCAL_PX * 1.8 / 8, abs=1.5)  # rounding at both ends
    assert (depth[found] == 8.0).all()


def test_a_wall_covers_the_pixels_between_its_corners() -> None:
    wall = Wall(4.0, 10.0, 30.0, 4.0, 0.0, texture=2, roof=2, along_m=0.0, depth_m=5.0)
    _, labels, depth = draw(dataclasses.replace(EMPTY, walls=(wall,)))
    found = (labels == BUILDING) & (depth < 100)
    left, right = extent(found, axis=1)
    assert left == pytest.approx(WIDTH / 2 + FOCAL_PX * 4 / 30, abs=1)  # the far end of the front
    assert right == WIDTH  # the gable reaches 9 m to the right at 10 m, past the edge of the picture
    top, bottom = extent(found, axis=0)
    assert top == pytest.approx(HORIZON - FOCAL_PX * 2.5 / 10, abs=1)
    assert bottom == pytest.approx(HORIZON + FOCAL_PX * 1.5 / 10, abs=1)
    column = 70  # on the front, which is 4 m to the right
    assert depth[HORIZON, column] == pytest.approx(4 * FOCAL_PX / (column + 0.75 - WIDTH / 2), rel=1e-5)


def test_nearer_things_hide_farther_ones() -> None:
    pole = Pole("post", 0.0, 12.0, 3.0, (60, 60, 60))
    behind = draw(dataclasses.replace(EMPTY, people=(PERSON,), poles=(pole,)))[1]
    row = HORIZON + 2
    assert behind[row, WIDTH // 2] == PEDESTRIAN
    before = draw(dataclasses.replace(EMPTY, people=(PERSON,), poles=(dataclasses.replace(pole, z_m=6.0),)))[1]
    assert before[row, WIDTH // 2] == POLE
    tree = Tree(0.0, 14.0, 6.0, 5.0, 0)
    alone = (draw(dataclasses.replace(EMPTY, trees=(tree,)))[1] == TREE).sum()
    hidden = draw(dataclasses.replace(EMPTY, trees=(tree,), people=(PERSON,)))[1]
    assert (hidden == TREE).sum() < alone
    assert (hidden == PEDESTRIAN).sum() == (draw(dataclasses.replace(EMPTY, people=(PERSON,)))[1] == PEDESTRIAN).sum()


@pytest.mark.parametrize("shape", dict.fromkeys((*CAR_SHAPES, *NEW_CAR_SHAPES)))
@pytest.mark.parametrize("heading", [-1, 1])
def test_a_car_fills_its_box(shape: object, heading: int) -> None:
    car = Car(0.0, 15.0, heading, shape, (200, 200, 200), (10, 10, 10))  # type: ignore[arg-type]
    found = draw(dataclasses.replace(EMPTY, cars=(car,)))[1] == CAR
    near = 15.0 - max(abs(car.shape.outline[0][0]), abs(car.shape.outline[-1][0]))
    left, right = extent(found, axis=1)
    assert right - left == pytest.approx(FOCAL_PX * car.shape.width_m / near, abs=2.5)  # rounding, and the narrower end
    top, bottom = extent(found, axis=0)
    assert bottom == pytest.approx(HORIZON + FOCAL_PX * 1.5 / near, abs=2)
    assert top <= HORIZON + FOCAL_PX * (1.5 - 0.75 * max(up for _, up in car.shape.outline)) / 15.0 + 1


def test_mirrored_is_the_mirror_image() -> None:
    scene = dataclasses.replace(EMPTY, people=(dataclasses.replace(PERSON, x_m=2.0),))
    for plain, mirrored in zip(draw(scene), draw(dataclasses.replace(scene, mirrored=True)), strict=True):
        assert np.array_equal(plain[:, ::-1], mirrored)


def test_a_frame_needs_none_of_the_others() -> None:
    config = StreetConfig(height=HEIGHT, width=WIDTH, num_frames=12)
    played = list(StreetStream(config, 4).frames())
    assert len(played) == 12
    other = StreetStream(config, 4)
    for index in (9, 2, 11, 2):
        alone = other.frame(index)
        assert (alone.id, alone.time_s) == (f"{index:06d}", index / 5.0)
        assert np.array_equal(alone.image, played[index].image)
        assert np.array_equal(alone.labels, played[index].labels)  # type: ignore[arg-type]
    assert not np.array_equal(played[2].image, StreetStream(config, 5).frame(2).image)


def test_parked_cars_stay_and_oncoming_ones_come() -> None:
    world = StreetWorld(3, speed_mps=8.0, light="auto")
    before, after = world.scene(20.0, 0.0), world.scene(20.5, 0.0)

    def places(scene: Scene) -> set[tuple[float, float, int]]:
        return {
            (round(car.x_m + scene.camera_x_m, 3), round(car.z_m + scene.camera_z_m, 3), car.heading)
            for car in scene.cars
        }

    def shifted(cars: set[tuple[float, float, int]], by: float) -> set[tuple[float, float, int]]:
        return {(x, round(z - by, 3), heading) for x, z, heading in cars}

    assert len(places(before) & places(after)) >= 3
    assert len(shifted(places(before), 0.5 * _ONCOMING_MPS) & places(after)) >= 1
    assert after.camera_z_m > before.camera_z_m


def test_new_looks_change_no_place() -> None:
    world = StreetWorld(3, speed_mps=8.0, light="auto")
    base, mixed, new = (world.scene(20.0, share) for share in (0.0, 0.5, 1.0))
    assert [(car.x_m, car.z_m) for car in base.cars] == [(car.x_m, car.z_m) for car in new.cars]
    assert [(a.x_m, a.z0_m, a.z1_m) for a in base.walls] == [(a.x_m, a.z0_m, a.z1_m) for a in new.walls]
    assert [(a.x_m, a.z_m) for a in base.people] == [(a.x_m, a.z_m) for a in new.people]
    assert all(car.shape in CAR_SHAPES for car in base.cars)
    assert all(car.shape in NEW_CAR_SHAPES for car in new.cars)
    changed = sum(car.shape in NEW_CAR_SHAPES for car in mixed.cars)
    assert 0 < changed < len(mixed.cars)
    things = zip((*base.cars, *base.people), (*mixed.cars, *mixed.people), (*new.cars, *new.people), strict=True)
    assert all(middle in (first, last) for first, middle, last in things)


def test_cells_repeat() -> None:
    assert make_cell(1, -3, GROUNDS[0], 0.3) == make_cell(1, -3, GROUNDS[0], 0.3)
    assert make_cell(1, -3, GROUNDS[0], 0.3) != make_cell(1, -2, GROUNDS[0], 0.3)


def test_all_classes_are_common_enough_to_learn() -> None:
    counts = np.zeros(len(CLASSES))
    for seed in range(16):
        frame = street_scene(seed, StreetConfig(height=HEIGHT, width=WIDTH))
        assert frame.labels is not None
        counts += np.bincount(frame.labels.ravel(), minlength=len(CLASSES))
    share = counts / counts.sum()
    assert share.min() > 0.002, dict(zip(CLASSES, share, strict=True))
    assert share.max() < 0.5


def test_scenes_differ_and_repeat() -> None:
    config = StreetConfig(height=HEIGHT, width=WIDTH)
    assert np.array_equal(street_scene(7, config).image, street_scene(7, config).image)
    assert not np.array_equal(street_scene(7, config).image, street_scene(8, config).image)
    assert street_scene(7).image.shape == (128, 192, 3)
