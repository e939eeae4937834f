from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from edgeai.core.errors import UsageError
from edgeai.fedsplit.sim.adaptive_cuts import FedAdapt, speed_groups

SIZES = (40, 56, 33)
ARES = {"kind": "ares"}
WANDERING = {"kind": "fedadapt", "groups": 3, "explore_frac": 1.0}
"""Three groups that take any cut, in every round anew."""

DEVICE = {"memory_bytes": 10**9, "compute_w": 3.0, "idle_w": 1.0, "tx_w": 2.0, "rx_w": 1.5}


def device(flops_per_s: float) -> dict[str, Any]:
    return {**DEVICE, "flops_per_s": flops_per_s}


def link(bps: float, delay_s: float = 0.0) -> dict[str, Any]:
    return {"up_bps": bps, "down_bps": bps, "delay_s": delay_s}


def name_of(played: Any, client: int) -> str:
    names = played.report.cuts
    return str(names[0] if len(names) == 1 else names[client])


# what is split where does not change plain SGD: the strongest oracle there is


@pytest.mark.parametrize("method", ["splitfed-v1", {"kind": "hsfl", "split_frac": 0.6}])
def test_wandering_cuts_change_nothing_in_what_is_fedavg(play: Any, method: Any) -> None:
    wandering = play(method=method, cut=WANDERING, rounds=5)
    assert len(set(wandering.sim.policy.positions)) > 1, "the clients cut at different layers"
    assert wandering.report.weights_hash == play(method="fedavg", rounds=5).report.weights_hash


def test_wandering_cuts_change_nothing_in_relay(play: Any) -> None:
    wandering = play(method="relay", cut=WANDERING, rounds=5)
    assert wandering.report.weights_hash == play(method="relay", rounds=5).report.weights_hash


@pytest.mark.parametrize("kind", ["splitfed-v2", "sflg", "psl", "mergesfl", "cyclesl", "cpsl", "hierarchical"])
def test_other_methods_go_on_with_wandering_cuts(play: Any, kind: str) -> None:
    whole, resumed = (play(method=kind, cut=WANDERING, rounds=5, resume_after=after) for after in (None, 3))
    assert all(row.loss is not None and math.isfinite(row.loss) for row in whole.report.rounds)
    assert resumed.report.weights_hash == whole.report.weights_hash
    assert resumed.report.rounds == whole.report.rounds
    assert resumed.report.cuts == whole.report.cuts


# ARES


def test_a_slow_device_cuts_early_and_a_slow_link_where_least_crosses(play: Any) -> None:
    # 64, 32 and 16 values a sample cross behind the three layers
    world = {
        "devices": [device(1e4), device(1e12), device(1e12)],
        "links": [link(1e12), link(1e4), link(1e12)],
        "server": {"device": device(1e9), "lanes": 3},
    }
    played = play(method="splitfed-v1", cut=ARES, rounds=1, world=world)
    assert name_of(played, 0) == "conv1"
    assert name_of(played, 1) == "fc"
    assert name_of(played, 2) == "fc", "faster than the server, so that it does all it can"


def test_takes_the_cut_whose_round_is_the_shortest(play: Any) -> None:
    world = {
        "devices": [device(2e6)],
        "links": [link(4e5, 0.001)],
        "server": {"device": device(1e8), "lanes": 1},
    }
    seconds = {
        cut: play((40,), method="splitfed-v1", cut=cut, rounds=1, world=world).report.seconds
        for cut in ("conv1", "conv2", "fc")
    }
    chosen = play((40,), method="splitfed-v1", cut=ARES, rounds=1, world=world)
    assert chosen.report.seconds == min(seconds.values())
    assert len(set(seconds.values())) == 3


def test_weighs_energy_against_time(play: Any) -> None:
    # sending draws nothing above waiting and computing does: for energy alone the cheapest is the least computing that
    # is not too slow; the device is fast, so that time alone would have it compute
    devices = [{**device(1e7), "compute_w": 100.0, "tx_w": 1.0, "rx_w": 1.0, "idle_w": 1e-9}]
    world = {"devices": devices, "links": [link(2e5)], "server": {"device": device(1e9), "lanes": 1}}

    def cut(time_weight: float) -> str:
        policy = {"kind": "ares", "time_weight": time_weight}
        return name_of(play((40,), method="splitfed-v1", cut=policy, rounds=1, world=world), 0)

    joules = {
        name: play((40,), method="splitfed-v1", cut=name, rounds=1, world=world).report.clients_j
        for name in ("conv1", "conv2", "fc")
    }
    assert cut(0.0) == min(joules, key=lambda name: joules[name])
    assert cut(1.0) == "fc"
    assert cut(0.0) != cut(1.0)


def test_measures_the_links(play: Any) -> None:
    # half of the packets are lost, in bursts: what gets through is about half of the rate
    lossy = {**link(1e6), "loss_frac": 0.5, "burst_len": 2.0, "packet_bytes": 100}
    played = play((40,), method="splitfed-v1", cut=ARES, rounds=1, world={"links": [lossy]})
    policy = played.sim.policy
    use = played.sim.clock.totals[0]
    totals = played.sim.ledger.of_client(0)
    assert policy.links[0].up_bps == pytest.approx(8 * totals.up_bytes / use.tx_s)
    assert policy.links[0].down_bps == pytest.approx(8 * totals.down_bytes / use.rx_s)
    assert 0.3e6 < policy.links[0].up_bps < 0.7e6


def test_a_link_that_breaks_down_moves_the_cut(play: Any, tmp_path: Any) -> None:
    trace = tmp_path / "link.csv"
    slow = [f"{0.05 * number:.2f},10,10,0,0" for number in range(1, 4000)]
    lines = ["t_s,up_kbps,down_kbps,rtt_ms,loss", "0,1000000,1000000,0,0", *slow]
    trace.write_text("\n".join(lines) + "\n")
    world = {"devices": [device(1e6)], "links": [{"trace": str(trace)}], "server": {"device": device(1e10)}}
    played = play((40,), method="splitfed-v1", cut=ARES, rounds=3, world=world)
    assert played.sim.policy.links[0].up_bps == pytest.approx(1e4, rel=0.01)
    sent = [played.sim.ledger.of_round(number).up["activations"] for number in (1, 2, 3)]
    assert sent == [40 * 4 * 64, 40 * 4 * 16, 40 * 4 * 16], "from behind conv1 to behind fc, where least crosses"


# FedAdapt


def arms(policy: FedAdapt, group: int) -> dict[int, tuple[int, float]]:
    return {position: (arm.num_rounds, arm.sample_s) for position, arm in policy.arms[group].items()}


def test_tries_each_cut_and_keeps_the_fastest(play: Any) -> None:
    world = {
        "devices": [device(1e4), device(1e12)],
        "links": [link(1e9), link(1e3)],
        "server": {"device": device(1e9), "lanes": 3},
    }
    policy = {"kind": "fedadapt", "groups": 2, "explore_frac": 0.0}
    played = play((40, 40), method="splitfed-v1", cut=policy, rounds=6, world=world)
    assert played.sim.policy.groups == [[1], [0]]
    assert [num for num, _ in arms(played.sim.policy, 0).values()] == [1, 1, 4]
    assert [num for num, _ in arms(played.sim.policy, 1).values()] == [4, 1, 1]
    assert name_of(played, 0) == "conv1"
    assert name_of(played, 1) == "fc"


def test_seconds_are_those_of_the_round(play: Any) -> None:
    # one client, nothing overlaps, no delay: what it needed is the whole round
    world = {"devices": [device(1e6)], "links": [link(1e6)], "server": {"device": device(1e7)}}
    policy = {"kind": "fedadapt", "groups": 1, "explore_frac": 0.0}
    played = play((40,), method="splitfed-v1", cut=policy, rounds=3, world=world)
    seconds = [row.end_s - row.begin_s for row in played.report.rounds]
    assert [sample_s for _, sample_s in arms(played.sim.policy, 0).values()] == pytest.approx(
        [second / 40 for second in seconds]
    )


def test_explores_as_often_as_asked(play: Any) -> None:
    policy = play((40,), method="splitfed-v1", cut={**WANDERING, "explore_frac": 0.3}, rounds=3).sim.policy
    best = policy.choices[0]
    for arm in policy.arms[0].values():
        arm.sample_s = 2.0
    policy.arms[0][best].sample_s = 1.0
    picked = [policy.pick(number, 0) for number in range(4, 1004)]
    # of three cuts, two thirds of the explored rounds take another one: 0.2; three standard deviations are 0.04
    assert abs(sum(position != best for position in picked) / 1000 - 0.2) < 0.04


def test_groups_are_speed_groups(play: Any) -> None:
    world = {"devices": [device(speed) for speed in (3e9, 1e9, 5e9, 2e9, 4e9)]}
    setup = play((20,) * 5, method="fedavg", rounds=1, world=world).sim.setup
    assert speed_groups(setup, 2) == [[2, 4], [0, 3, 1]]
    assert speed_groups(setup, 9) == [[2], [4], [0], [3], [1]]


# what they have in common


@pytest.mark.parametrize("cut", [ARES, WANDERING])
@pytest.mark.parametrize("after", [1, 3])
def test_resumes_to_the_bit(play: Any, cut: dict[str, Any], after: int) -> None:
    some = {"links": ["3g"], "participation": {"per_round": 2}}
    runs = [play(method="splitfed-v2", cut=cut, rounds=4, world=some, resume_after=one) for one in (None, after)]
    assert runs[1].report == runs[0].report


def test_only_cuts_that_the_codec_fits(play: Any) -> None:
    # 64 and 32 values a sample have 32 pieces, 16 have not
    codec = {"up": {"kind": "fedlite", "num_subvectors": 32, "centroids": 2}}
    assert play(method="splitfed-v2", cut=ARES, rounds=1, codec=codec).sim.policy.choices == (1, 2)


def test_notes_how_deep_the_cuts_are(play: Any) -> None:
    played = play(method="splitfed-v2", cut=WANDERING, rounds=2)
    assert played.report.figures["mean_cut"] == pytest.approx(sum(played.sim.policy.positions) / 3)


REFUSED = [
    (
        {"method": "fedavg"},
        "cut ares changes from round to round, but method fedavg needs fixed cuts",
        "give a layer as cut, or use one of relay, splitfed-v1, splitfed-v2, sflg, psl, mergesfl, cyclesl, cpsl, "
        "hierarchical, hsfl",
    ),
    (
        {"method": {"kind": "psl", "sync": False}},
        "cut ares changes from round to round, but client parts without sync are private",
        "set method.sync to true, or give a layer as cut",
    ),
    (
        {"method": "splitfed-v2", "privacy": {"dp_sgd": {}}},
        "privacy.dp_sgd needs a fixed cut, but cut ares changes from round to round",
        "give a layer as cut, or leave privacy.dp_sgd empty",
    ),
]


@pytest.mark.parametrize(("config", "message", "hint"), REFUSED)
def test_refusals(play: Any, config: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        play(cut=ARES, **config)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_fixed_cut_has_no_policy(play: Any) -> None:
    played = play(method="splitfed-v2", rounds=1)
    assert played.sim.policy is None
    assert torch.is_tensor(played.weights["conv1.0.weight"])
