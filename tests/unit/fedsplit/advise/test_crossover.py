"""The crossover of Singh et al. against the arithmetic of LeNet-5's cut table."""

import math

import pytest

from edgeai.core.errors import UsageError
from edgeai.fedsplit.advise.choices import advise
from edgeai.fedsplit.advise.crossover import find_crossover
from edgeai.fedsplit.advise.cut_parts import CutParts, LocalTraining
from edgeai.fedsplit.config.advise import AdviseConfig
from edgeai.fedsplit.config.codec import CodecConfig, Fp16Config
from edgeai.fedsplit.cuts.part_cost import PartCost
from edgeai.fedsplit.models.build import build_model

CUTS = {"conv1": (156, 1176, 52), "conv2": (2_572, 400, 148), "fc1": (50_692, 120, 92), "fc2": (60_856, 84, 10)}
"""Client parameters, q, samples a client and round above which splitting costs more than federated learning."""
NUM_PARAMS = 61_706


def parts(name: str) -> CutParts:
    num_params, values, _ = CUTS[name]
    client = PartCost(num_params, num_params, 4 * num_params, 1.0, 2.0, 0.0, (values,), 4 * values)
    server = PartCost(NUM_PARAMS - num_params, 1, 4 * (NUM_PARAMS - num_params), 1.0, 2.0, 0.0, (10,), 40)
    return CutParts(name, 1, client, server)


def how(codec: CodecConfig | None = None, num_samples: int = 600, epochs: int = 1) -> LocalTraining:
    return LocalTraining(num_samples, epochs, 64, codec or CodecConfig(), 5)


def test_lenet5_has_the_crossovers_of_its_table() -> None:
    found = advise(AdviseConfig(samples_per_client=600, num_clients=5)).crossovers
    assert [item.cut for item in found] == list(CUTS)
    for item, (num_params, values, samples) in zip(found, CUTS.values(), strict=True):
        assert (item.client_params, item.cut_values, round(item.samples_two_way)) == (num_params, values, samples)
        assert item.client_frac == num_params / NUM_PARAMS


@pytest.mark.parametrize("name", CUTS)
def test_at_the_crossover_both_move_the_same(name: str) -> None:
    item = find_crossover(parts(name), NUM_PARAMS, 4 * NUM_PARAMS, how(), 5)
    federated = 4 * 2 * NUM_PARAMS
    for samples, one_way in ((item.samples_two_way, False), (item.samples_one_way, True)):
        assert item.formula_bytes(samples, one_way=one_way) == pytest.approx(federated)
    assert item.ledger_bytes(item.samples_by_ledger) == pytest.approx(federated)
    assert item.samples_by_ledger < item.samples_two_way  # labels cost too


@pytest.mark.parametrize("name", CUTS)
def test_more_clients_than_k_star_favour_splitting(name: str) -> None:
    """With p samples in total on K* clients, each client has n*."""
    item = find_crossover(parts(name), NUM_PARAMS, 4 * NUM_PARAMS, how(num_samples=600), 5)
    assert 5 * 600 / item.clients_two_way == pytest.approx(item.samples_two_way)
    assert 5 * 600 / item.clients_one_way == pytest.approx(item.samples_one_way)


def test_codecs_and_epochs_move_the_crossover() -> None:
    plain = find_crossover(parts("conv2"), NUM_PARAMS, 4 * NUM_PARAMS, how(), 5)
    half = CodecConfig(up=Fp16Config(), down=Fp16Config())
    coded = find_crossover(parts("conv2"), NUM_PARAMS, 4 * NUM_PARAMS, how(half), 5)
    assert coded.samples_by_ledger == pytest.approx(plain.samples_by_ledger * (3200 + 8) / (1600 + 8))
    assert coded.samples_two_way == plain.samples_two_way  # the formula has no codec
    twice = find_crossover(parts("conv2"), NUM_PARAMS, 4 * NUM_PARAMS, how(epochs=2), 5)
    assert twice.samples_two_way == pytest.approx(plain.samples_two_way / 2)
    assert math.isclose(twice.clients_two_way, 2 * plain.clients_two_way)


def test_the_ledger_counts_what_the_line_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeai.fedsplit.sim.setup.build_model", build_model)  # LeNet-5, not the tests' tiny model
    report = advise(AdviseConfig.model_validate({"count_samples": [32, 64, 128], "methods": ["fedavg"], "batch": 32}))
    line = {item.cut: item for item in report.crossovers}
    assert len(report.counted) == 3 * 5
    for point in report.counted:
        expected = line[point.cut].ledger_bytes(point.num_samples) if point.cut else 2 * 4 * NUM_PARAMS
        assert point.num_bytes == expected
    for name, (_, _, samples) in CUTS.items():
        dearer = [p.num_samples for p in report.counted if p.cut == name and p.num_bytes > 2 * 4 * NUM_PARAMS]
        assert dearer == [number for number in (32, 64, 128) if number > samples]


def test_shapes_without_weights_cannot_be_played() -> None:
    with pytest.raises(UsageError) as error:
        advise(AdviseConfig.model_validate({"model": {"kind": "transformer-shape", "layers": 1}, "count_samples": [4]}))
    assert error.value.message == "count_samples runs real rounds, but a transformer-shape has no weights"
