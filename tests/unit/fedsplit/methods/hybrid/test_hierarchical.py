from __future__ import annotations

from typing import Any

import pytest
import torch

from edgeai.fedsplit.protocol.ledger import RELAY

SIZES = (40, 56, 33)
MODEL_BYTES, CLIENT_BYTES, Z_BYTES = 4 * 1034, 4 * 40, 4 * 64


def below(edges: int, cloud_every: int) -> dict[str, Any]:
    return {"kind": "hierarchical", "edges": edges, "cloud_every": cloud_every}


def test_one_edge_is_splitfed_v2(play: Any) -> None:
    one, v2 = (play(method=method, rounds=2, cut=["conv1", "fc"]) for method in (below(1, 1), "splitfed-v2"))
    for name, value in v2.weights.items():
        assert torch.equal(one.weights[name], value)
    assert one.report.rounds[-1].accuracy == v2.report.rounds[-1].accuracy


def test_a_cloud_in_every_round_is_sflg(play: Any) -> None:
    sizes = (40, 56, 33, 20)
    edges, sflg = (play(sizes, method=method, rounds=3) for method in (below(2, 1), {"kind": "sflg", "groups": 2}))
    for name, value in sflg.weights.items():  # a mean of means: the same up to rounding
        torch.testing.assert_close(edges.weights[name], value, atol=1e-6, rtol=1e-5)


def test_edges_go_their_own_ways_until_the_cloud_averages(play: Any) -> None:
    apart = play(method=below(2, 3), rounds=2).sim.method
    # of three clients the first two are below edge 0, the last below edge 1: each edge is SplitFed V2 on its own
    first = play((40, 56), method="splitfed-v2", rounds=2).weights
    assert [apart.edge_of(client) for client in range(3)] == [0, 0, 1]
    for name, value in first.items():
        assert torch.equal(apart.edges[0].weights()[name], value)
        assert torch.equal(apart.global_model.weights()[name], apart.setup.model.weights()[name])
    assert [model.client for model in apart.evaluated(dict)] == [0, 1, 2]

    together = play(method=below(2, 2), rounds=2).sim.method
    for name, value in together.global_model.weights().items():
        mean = 96 / 129 * apart.edges[0].weights()[name] + 33 / 129 * apart.edges[1].weights()[name]
        torch.testing.assert_close(value, mean, atol=1e-6, rtol=1e-5)
        assert torch.equal(together.edges[1].weights()[name], value)
    assert [model.client for model in together.evaluated(dict)] == [None]


def test_accuracy_is_the_mean_over_clients_of_their_edges(play: Any) -> None:
    report = play(method=below(2, 3), rounds=2).report
    accuracies = report.client_accuracy
    assert accuracies[0] == accuracies[1]
    assert report.accuracy == pytest.approx(sum(accuracies) / 3)


def test_bytes_are_the_formula(play: Any) -> None:
    ledger = play(method=below(2, 2), rounds=4).sim.ledger
    relayed = ledger.of_client(RELAY)
    assert relayed.up["weights"] == relayed.down["weights"] == 2 * 2 * MODEL_BYTES
    assert relayed.num_bytes == 8 * MODEL_BYTES
    totals = ledger.totals
    assert totals.up["activations"] == totals.down["gradients"] == 4 * 129 * Z_BYTES
    assert totals.up["labels"] == 4 * 129 * 8
    assert totals.up["weights"] == totals.down["weights"] == 4 * 3 * CLIENT_BYTES + 4 * MODEL_BYTES


def test_the_cloud_takes_its_time_on_the_backhaul(play: Any, world: Any) -> None:
    slow = world()
    slow["server"] = {**slow.get("server", {}), "backhaul": {"up_bps": 8e3, "down_bps": 16e3, "delay_s": 0.5}}
    near = play(method=below(1, 9), rounds=1, world=slow).report.seconds
    far = play(method=below(1, 1), rounds=1, world=slow).report.seconds
    assert far - near == pytest.approx(MODEL_BYTES / 1e3 + 0.5 + MODEL_BYTES / 2e3 + 0.5, rel=1e-6)


def test_an_edge_without_anyone_in_time_does_not_count(play: Any, world: Any) -> None:
    late = world(1e9, 1e9, 1e3) | {"participation": {"deadline_s": 5.0}}
    late["server"] = {**late["server"], "lanes": 2}
    method = play(method=below(2, 1), rounds=1, world=late).sim.method
    for name, value in play((40, 56), method="splitfed-v2", rounds=1).weights.items():
        assert torch.equal(method.global_model.weights()[name], value)
        assert torch.equal(method.edges[1].weights()[name], value)


def test_resumes_to_the_bit(play: Any) -> None:
    some = {"participation": {"per_round": 2}}
    whole, resumed = (play(method=below(2, 3), rounds=4, world=some, resume_after=after) for after in (None, 2))
    assert resumed.report.weights_hash == whole.report.weights_hash
    assert resumed.report.rounds == whole.report.rounds


def test_warns_where_edges_wait_for_each_other(play: Any, world: Any) -> None:
    shared = play(method=below(2, 1), rounds=1).history.warnings
    assert shared == ("2 edges share 1 of the server's lanes: set world.server.lanes to 2",)
    assert play(method=below(2, 1), rounds=1, world={"server": {"lanes": 2}}).history.warnings == ()
