"""Devices, links and cohorts: hand-computed assignments, long-run shares, and the same again after a fresh start."""

import itertools
from pathlib import Path

import pytest

from edgeai.core.errors import UsageError
from edgeai.core.link import PRESETS
from edgeai.fedsplit.config.world import WorldConfig
from edgeai.fedsplit.world.catalog import read_catalog
from edgeai.fedsplit.world.world import SERVER, World, build_world

BOARD = """\
devices:
  board:
    {flops_per_s: 1e9, memory_bytes: 1000, compute_w: 3, idle_w: 1, tx_w: 2, rx_w: 1.5}
"""


def world(num_clients: int = 5, seed: int = 0, **changes: object) -> World:
    return build_world(WorldConfig.model_validate(changes), num_clients, seed)


def share_there(there: World, num_rounds: int) -> float:
    gone = sum(len(there.cohort(number).unavailable) for number in range(num_rounds))
    return 1 - gone / (num_rounds * there.num_clients)


def test_devices_and_links_go_round() -> None:
    catalogue = read_catalog()
    made = world(devices=["phone", "laptop"], links=["wifi", "4g", "3g"], server={"device": "server-gpu", "lanes": 3})
    assert [made.device(k) for k in range(5)] == [catalogue[["phone", "laptop"][k % 2]] for k in range(5)]
    assert [made.link_config(k) for k in range(5)] == [PRESETS[["wifi", "4g", "3g"][k % 3]] for k in range(5)]
    assert (made.device(SERVER), made.link_config(SERVER)) == (catalogue["server-gpu"], PRESETS["lan"])
    assert made.lanes == 3


def test_shares_are_met_by_largest_remainder_and_shuffled() -> None:
    catalogue = read_catalog()
    made = world(10, devices=["phone", "laptop", "workstation"], shares=[0.5, 0.26, 0.24])
    given = [made.device(k) for k in range(10)]
    counts = [given.count(catalogue[name]) for name in ("phone", "laptop", "workstation")]
    assert counts == [5, 3, 2]  # 5.0, 2.6, 2.4: the spare one goes to 2.6
    assert given != sorted(given, key=lambda device: device.flops_per_s)
    again = world(10, devices=["phone", "laptop", "workstation"], shares=[0.5, 0.26, 0.24])
    assert [again.device(k) for k in range(10)] == given


def test_speeds_spread_lognormally_once_a_run() -> None:
    import numpy as np

    made, plain = world(4000, speed_sigma=0.5), read_catalog()["raspberry-pi-4"].flops_per_s
    logs = np.log([made.device(k).flops_per_s / plain for k in range(4000)])
    assert abs(logs.mean()) < 4 * 0.5 / 4000**0.5  # four standard errors
    assert abs(logs.std() - 0.5) < 4 * 0.5 / 8000**0.5


def test_everybody_takes_part_by_default() -> None:
    cohort = world().cohort(7)
    assert (cohort.selected, cohort.unavailable, cohort.num_wanted, cohort.drops) == ((0, 1, 2, 3, 4), (), 5, set())


def test_a_cohort_is_a_fair_draw_with_spares() -> None:
    made = world(20, participation={"per_round": 4, "over_select": 1.3})
    cohorts = [made.cohort(number) for number in range(1, 401)]
    assert {len(set(cohort.selected)) for cohort in cohorts} == {6}  # 5.2 rounded up
    assert {cohort.num_wanted for cohort in cohorts} == {4}
    assert all(list(cohort.selected) == sorted(cohort.selected) for cohort in cohorts)
    times = [sum(k in cohort.selected for cohort in cohorts) for k in range(20)]
    spread = (400 * 0.3 * 0.7) ** 0.5
    assert max(abs(number - 400 * 0.3) for number in times) < 4.5 * spread


def test_bernoulli_and_markov_absences() -> None:
    bernoulli = world(50, participation={"availability": {"kind": "bernoulli", "p": 0.8}})
    assert abs(share_there(bernoulli, 400) - 0.8) < 4.5 * (0.16 / 20_000) ** 0.5
    markov = world(50, participation={"availability": {"kind": "markov", "p_drop": 0.1, "p_return": 0.3}})
    assert abs(share_there(markov, 400) - 0.75) < 0.03  # 0.3 / 0.4; neighbouring rounds hang together
    away = [set(markov.cohort(number).unavailable) for number in range(400)]
    stayed = sum(len(before & after) for before, after in itertools.pairwise(away))
    left = sum(len(before) for before in away[:-1])
    assert abs(stayed / left - 0.7) < 4.5 * (0.21 / left) ** 0.5


def test_a_resumed_world_goes_on_as_the_first_one() -> None:
    changes = {
        "per_round": 3,
        "availability": {"kind": "markov", "p_drop": 0.4, "p_return": 0.4},
        "drop_frac": 0.5,
    }
    first = world(8, participation=changes)
    straight = [first.cohort(number) for number in range(1, 9)]
    assert [world(8, participation=changes).cohort(number) for number in (8, 3, 5)] == [
        straight[7],
        straight[2],
        straight[4],
    ]
    assert [first.cohort(number) for number in (2, 6)] == [straight[1], straight[5]]
    assert world(8, seed=1, participation=changes).cohort(8) != straight[7]


def test_drops_are_drawn_among_the_selected() -> None:
    made = world(100, participation={"per_round": 50, "drop_frac": 0.2})
    cohorts = [made.cohort(number) for number in range(1, 101)]
    assert all(cohort.drops <= set(cohort.selected) for cohort in cohorts)
    num_drops = sum(len(cohort.drops) for cohort in cohorts)
    assert abs(num_drops / 5000 - 0.2) < 4.5 * (0.16 / 5000) ** 0.5


def test_nobody_there_is_an_empty_cohort() -> None:
    made = world(2, participation={"availability": {"kind": "bernoulli", "p": 0.01}})
    cohort = made.cohort(1)
    assert (cohort.selected, cohort.unavailable, cohort.num_wanted) == ((), (0, 1), 0)


def test_a_catalogue_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "boards.yaml"
    path.write_text(BOARD)
    made = world(1, devices=["board"], catalogue=str(path))
    assert made.device(0).flops_per_s == 1e9
    assert "phone" in read_catalog(path)
    path.write_text(BOARD.replace("idle_w: 1,", "idle_w: 9,"))
    with pytest.raises(UsageError) as error:
        read_catalog(path)
    assert error.value.message == f"{path}:2: devices.board: compute_w 3 is below idle_w 9"


def test_a_catalogue_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "boards.yaml"
    with pytest.raises(UsageError) as error:
        world(1, catalogue=str(path))
    assert error.value.message == f"world.catalogue: no file {path}"


def test_a_device_that_is_not_complete(tmp_path: Path) -> None:
    path = tmp_path / "boards.yaml"
    path.write_text("devices:\n  board: {flops_per_s: 1.0e+9, memory_bytes: 9, compute_w: 3, idle_w: 1, tx_w: 2}\n")
    with pytest.raises(UsageError) as error:
        world(1, catalogue=str(path))
    assert error.value.message == f"{path}:2: devices.board.rx_w: the key is required"
    assert error.value.hint == (
        "devices: NAME: {...} with the keys flops_per_s, memory_bytes, compute_w, idle_w, tx_w, rx_w, start_s"
    )


def test_bad_worlds_are_refused() -> None:
    with pytest.raises(UsageError) as error:
        world(devices=["raspbery-pi-4"])
    assert error.value.message == 'no device "raspbery-pi-4"'
    assert error.value.hint.startswith('did you mean "raspberry-pi-4"? there are: raspberry-pi-3, ')
    with pytest.raises(UsageError) as error:
        world(participation={"per_round": 6})
    assert error.value.message == "world.participation.per_round is 6, but there are only 5 clients"
    with pytest.raises(ValueError, match="2 shares for 1 devices: give one per device"):
        world(shares=[0.5, 0.5])
