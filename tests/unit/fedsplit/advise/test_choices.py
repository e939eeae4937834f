"""Costs against a simulation of the same setting and against brute force; the recommendation's text."""

import json
from typing import Any

import pytest

from edgeai.core.errors import UsageError
from edgeai.fedsplit.advise.choices import advise
from edgeai.fedsplit.config.advise import AdviseConfig, TransformerShapeConfig
from edgeai.fedsplit.reports.advise_report import Choice
from edgeai.fedsplit.sim.train import play_round
from edgeai.fedsplit.world.catalog import read_catalog

from ..conftest import build, tiny_model

LINK = {"up_bps": 1e6, "down_bps": 2e6, "delay_s": 0.01}
WORLD = {"devices": ["raspberry-pi-4"], "links": [LINK], "server": {"device": "laptop", "lanes": 2}}
MIXED = {**WORLD, "devices": ["raspberry-pi-4", "jetson-nano"], "links": [LINK, {**LINK, "up_bps": 3e5}]}


def advice(**changes: Any) -> AdviseConfig:
    return AdviseConfig.model_validate(changes)


def choice_of(world: dict[str, Any], method: dict[str, Any], cut: str) -> Choice:
    """Return an advise config for digits and the tiny model of the method tests."""
    report = advise(
        advice(
            sample_shape=[1, 8, 8],
            num_clients=3,
            samples_per_client=40,
            local_epochs=2,
            batch=16,
            methods=[method],
            world=world,
        )
    )
    [found] = [choice for choice in report.choices if choice.cut in ("", cut)]
    return found


METHODS = [
    {"kind": "fedavg"},
    {"kind": "relay"},
    {"kind": "relay", "turn": "batch"},
    {"kind": "splitfed-v1"},
    {"kind": "splitfed-v2"},
    {"kind": "splitfed-v2", "sync": False},
    {"kind": "splitfed-v3"},
    {"kind": "sflg"},
    {"kind": "psl"},
    {"kind": "psl", "sync": False},
    {"kind": "local-loss"},
    {"kind": "local-loss", "server": "replicas"},
    {"kind": "cse-fsl", "h": 3},
    {"kind": "ushape"},
    {"kind": "sglr"},
    {"kind": "hsfl"},
]


@pytest.mark.parametrize("codec", [{}, {"up": {"kind": "topk", "k": 5}, "down": {"kind": "fp16"}}])
@pytest.mark.parametrize("method", METHODS)
def test_a_simulation_counts_what_was_advised(
    method: dict[str, Any], codec: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeai.fedsplit.advise.scene.build_model", tiny_model)
    settings = {"local_epochs": 2, "codec": codec, "method": method}
    sim = build((40, 40, 40), cut="conv2", world=WORLD, **settings)
    use = play_round(sim, 1).usage
    assert use is not None
    report = advise(
        advice(
            sample_shape=[1, 8, 8],
            num_clients=3,
            samples_per_client=40,
            batch=16,
            methods=[method],
            world=WORLD,
            local_epochs=2,
            codec=codec,
        )
    )
    [found] = [choice for choice in report.choices if choice.cut in ("", "conv2")]
    assert 3 * found.client_up_bytes == sim.ledger.totals.up_bytes
    assert 3 * found.client_down_bytes == sim.ledger.totals.down_bytes
    assert found.total_bytes == sim.ledger.totals.num_bytes
    # equal clients meet at the server in every step, or in none: a step of one is at most in the way of a lane's others
    assert found.seconds == pytest.approx(use.end_s - use.begin_s, rel=0.03)
    assert found.total_j == pytest.approx(use.energy_j, rel=0.03)


@pytest.mark.parametrize("method", [METHODS[0], METHODS[1], METHODS[3], METHODS[6]])
def test_unlike_clients_take_as_long_as_the_slowest_or_all_of_them(
    method: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeai.fedsplit.advise.scene.build_model", tiny_model)
    sim = build((40, 40, 40), cut="conv1", world=MIXED, local_epochs=2, method=method)
    use = play_round(sim, 1).usage
    assert use is not None
    assert choice_of(MIXED, method, "conv1").seconds == pytest.approx(use.end_s - use.begin_s, rel=0.03)


def test_the_best_are_those_that_nothing_beats() -> None:
    report = advise(advice(samples_per_client=100))

    def goals(choice: Choice) -> tuple[float, ...]:
        return choice.seconds, choice.total_bytes, choice.total_j, choice.client_memory_bytes

    for choice in report.choices:
        better = [
            other
            for other in report.choices
            if goals(other) != goals(choice) and all(a <= b for a, b in zip(goals(other), goals(choice), strict=True))
        ]
        assert choice.is_best == (not better)
    assert 0 < len(report.best) < len(report.choices)
    assert [choice.seconds for choice in report.best] == sorted(choice.seconds for choice in report.best)


def test_every_cut_of_every_method_is_weighed() -> None:
    report = advise(advice(methods=["fedavg", "psl", {"kind": "ushape"}, {"kind": "cse-fsl", "h": 2}]))
    cuts = ["conv1", "conv2", "fc1", "fc2"]
    assert [choice.name for choice in report.choices] == [
        "fedavg",
        *(f"psl cut after {cut}" for cut in cuts),
        *(f"ushape cut after {cut}" for cut in cuts[:3]),
        *(f"cse-fsl h=2 cut after {cut}" for cut in cuts),
    ]
    assert [choice.labels_leave for choice in report.choices] == [False] + [True] * 4 + [False] * 3 + [True] * 4


def test_seven_billion_parameters_need_no_memory() -> None:
    model = TransformerShapeConfig(seq=128)
    world = {"devices": ["jetson-orin-nano"], "server": {"device": "server-gpu", "lanes": 4}}
    report = advise(advice(model=model.model_dump(), batch=1, samples_per_client=10, world=world))
    assert report.num_params == 6_738_415_616
    assert len(report.cuts) == 34
    whole = next(choice for choice in report.choices if choice.method == "fedavg")
    assert whole.client_up_bytes == 4 * 6_738_415_616
    assert not whole.fits  # 54 GB of weights and gradients on 8 GiB
    assert any(choice.fits for choice in report.choices)
    first = next(choice for choice in report.choices if choice.name == "psl cut after embed")
    # up: activations, one label per token, the client part; down: the same without labels
    assert first.client_up_bytes == 10 * 128 * (4 * 4096 + 8) + 4 * 32_000 * 4096
    assert first.client_down_bytes == 10 * 128 * 4 * 4096 + 4 * 32_000 * 4096


def test_a_half_must_fit_one_lane() -> None:
    model = {"kind": "transformer-shape", "layers": 4, "width": 64, "heads": 4, "kv_heads": 4, "ffn": 128, "seq": 16}
    asked = {"model": model, "batch": 1, "methods": ["splitfed-v1"], "num_clients": 4}
    [whole] = {choice.server_memory_bytes for choice in advise(advice(**asked)).choices if choice.cut == "embed"}
    fitting = {}
    for part, lanes in ((4, 4), (4, 3), (5, 8)):
        lane = {**read_catalog()["server-gpu"].model_dump(), "memory_bytes": whole // part}
        report = advise(advice(**asked, world={"devices": ["laptop"], "server": {"device": lane, "lanes": lanes}}))
        fitting[part, lanes] = report.choices[0].fits
    assert fitting == {(4, 4): True, (4, 3): False, (5, 8): False}


def test_only_active_clients_count() -> None:
    few = advise(advice(num_clients=50, methods=["fedavg"], world={"participation": {"per_round": 10}}))
    assert (few.num_clients, few.num_active) == (50, 10)
    assert few.choices[0].total_bytes == 10 * 2 * 246_824


def test_the_report_is_json_and_says_what_it_leaves_out() -> None:
    report = advise(advice())
    tree = json.loads(json.dumps(report.to_json()))
    assert len(tree["choices"]) == len(report.choices)
    assert any("leakage.dcor=true" in note for note in report.notes)


def test_words_name_the_choices_and_their_price() -> None:
    slow = {"links": ["narrow"]}
    report = advise(advice(samples_per_client=600, methods=["fedavg", "splitfed-v1"], world=slow))
    assert report.recommendation[0] == "All 5 choices fit the memory of clients and server."
    assert report.recommendation[1].startswith("Balanced choice: fedavg: 41.")  # 494 kB at 100 kbit/s, and 2 s
    assert report.recommendation[3] == "Fewest bytes: the same, 2.47 MB."
    assert report.recommendation[5] == (
        "Least memory on a client: splitfed-v1 cut after conv1, 2.01 MB, 1.78 times less."
    )
    assert report.recommendation[6] == (
        "With 600 samples per client, fedavg transfers fewer bytes than full-gradient splitting at any cut; "
        "below 147 samples per client (cut after conv2) splitting does."
    )
    assert len(report.recommendation) == 7  # no sentence about labels: they stay on the client


def test_nothing_that_fits_is_said() -> None:
    tiny = {"flops_per_s": 1e9, "memory_bytes": 1000, "compute_w": 1, "idle_w": 1, "tx_w": 1, "rx_w": 1}
    report = advise(advice(methods=["fedavg"], world={"devices": [tiny]}))
    assert report.recommendation[0].startswith(
        "No choice fits the memory of clients and server. On the clients, fedavg needs least: 3.57 MB"
    )


def test_a_cut_that_hides_nothing_is_named() -> None:
    model = {"kind": "transformer-shape", "layers": 2, "width": 8, "heads": 2, "kv_heads": 2, "ffn": 8, "vocab": 9000}
    slow = {"flops_per_s": 1e3, "memory_bytes": 10**9, "compute_w": 1, "idle_w": 1, "tx_w": 1, "rx_w": 1}
    report = advise(advice(model={**model, "seq": 4}, methods=["splitfed-v3"], world={"devices": [slow]}))
    assert report.recommendation[1].startswith("Balanced choice: splitfed-v3 cut after embed:")
    assert (
        "The layers up to embed only look up or move values: inputs can be read off the smashed data. "
        "Choose a deeper cut if inputs are private."
    ) in report.recommendation
    assert not any("only look up or move values" in line for line in advise(advice()).recommendation)


def test_bad_questions_are_refused() -> None:
    with pytest.raises(UsageError) as error:
        advise(advice(codec={"up": {"kind": "topk", "k": 100}}))
    assert error.value.message == "codec.up: topk keeps k = 100 values of a sample, but only 84 cross the cut"
    with pytest.raises(UsageError) as error:
        advise(advice(methods=[{"kind": "ushape", "tail": "fc9"}]))
    assert error.value.message == 'ushape: no layer "fc9"'
