from __future__ import annotations

import copy
import functools

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.data.samples import Dataset, Samples
from edgeai.fedsplit.models.build import build_model
from edgeai.fedsplit.partition.assign import partition
from edgeai.fedsplit.protocol.batching import derived_seed
from edgeai.fedsplit.sim.build import assemble
from edgeai.fedsplit.sim.evaluate import evaluate
from edgeai.fedsplit.sim.history import History
from edgeai.fedsplit.sim.train import play_round

NUM, BATCH = 40, 16


@pytest.fixture(autouse=True)
def _real_models(_tiny_model, monkeypatch):
    monkeypatch.setattr("edgeai.fedsplit.sim.setup.build_model", build_model)


@functools.cache
def pictures():
    found = load_digits()
    return torch.tensor(found.data, dtype=torch.float32).view(-1, 1, 8, 8) / 16, torch.tensor(found.target)


def dataset(table=False):
    x, y = pictures()
    if table:
        x = x[:, 0, 3]  # eight columns
    columns = tuple("abcdefgh") if table else ()
    train, test = Samples(x[:NUM], y[:NUM]), Samples(x[NUM:100], y[NUM:100])
    return Dataset("digits", train, test, tuple("0123456789"), features=columns, columns=columns)


def build(num_clients=2, table=False, **config):
    cfg = SimConfig.model_validate(
        {
            "num_clients": num_clients,
            "batch": BATCH,
            "rounds": 2,
            "cut": 1,
            "model": {"kind": "mlp", "hidden": [12, 7]},
            "method": {"kind": "vertical"},
            "partition": {"kind": "vertical"},
            **config,
        }
    )
    data = dataset(table)
    return assemble(cfg, data, partition(data, cfg.partition, num_clients, cfg.seed))


def play(resume_after=None, **config):
    sim = build(**config)
    history = History(sim)
    for number in range(1, sim.cfg.rounds + 1):
        rnd = play_round(sim, number)
        history.add(rnd, evaluate(sim.method.evaluated(sim.devices.kept), sim.dataset.test))
        if number == resume_after:
            state = history.state()
            sim = build(**config)
            history = History(sim)
            history.restore(state)
    return sim, history.report()


MERGES = {
    "concat": lambda z: torch.cat(z, -1),
    "sum": sum,
    "mean": lambda z: sum(z) / len(z),
    "max": lambda z: functools.reduce(torch.maximum, z),
}
COLUMNS = [slice(0, 4), slice(4, 8)]
CNN = {"kind": "cnn", "channels": [4, 6], "hidden": 7, "norm": "none"}


@pytest.mark.parametrize("merge", ["concat", "sum", "mean", "max"])
@pytest.mark.parametrize("model", [{"kind": "mlp", "hidden": [12, 7]}, CNN])
def test_one_round_is_sgd_on_all_parts(merge, model):
    method = {"kind": "vertical", "merge": merge}
    start = build(model=model, method=method).method
    bottoms, top = [copy.deepcopy(one.model) for one in start.bottoms], copy.deepcopy(start.top.model)
    weights = [weight for part in (*bottoms, top) for weight in part.parameters()]
    x, y = dataset().train.x, dataset().train.y
    generator = torch.Generator().manual_seed(derived_seed(0, 1, 0, 10))
    for rows in torch.randperm(NUM, generator=generator).split(BATCH):
        z = [bottom(x[rows][..., columns]) for bottom, columns in zip(bottoms, COLUMNS, strict=True)]
        found = torch.autograd.grad(F.cross_entropy(top(MERGES[merge](z)), y[rows]), weights)
        for weight, gradient in zip(weights, found, strict=True):
            weight.data -= 0.05 * gradient
    sim, _ = play(rounds=1, model=model, method=method)
    for client, bottom in enumerate(bottoms):
        for value, expected in zip(sim.devices.kept(client).values(), bottom.state_dict().values(), strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
    for value, expected in zip(sim.method.top.model.state_dict().values(), top.state_dict().values(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)


def test_bytes():
    sim, report = play()
    z_bytes = NUM * 12 * 4 * 2 * 2  # two clients, two rounds
    nothing = {"labels": 0, "weights": 0, "side": 0}
    assert report.bytes_up == {"activations": z_bytes, "gradients": 0, **nothing}
    assert report.bytes_down == {"activations": 0, "gradients": z_bytes, **nothing}
    assert (
        report.server_memory_bytes == 2 * (24 * 7 + 7 + 7 * 10 + 10) * 4 + BATCH * sim.method.top.cost(0, 2).saved_bytes
    )


def test_is_tested_on_whole_samples():
    sim, report = play(rounds=1)
    bottoms = [one.copy() for one in sim.method.bottoms]
    for client, bottom in enumerate(bottoms):
        bottom.load(sim.devices.kept(client))
    x, y = sim.dataset.test.x, sim.dataset.test.y
    z = [bottom.model(x[..., columns]) for bottom, columns in zip(bottoms, COLUMNS, strict=True)]
    right = sim.method.top.model(torch.cat(z, -1)).argmax(1) == y
    assert report.accuracy == int(right.sum()) / len(y)


def test_pictures_are_joined_where_they_were_cut():
    """Strips of four columns are two wide behind the pooling, and four wide together, as the whole picture."""
    whole = build(model=CNN).method
    assert whole.merge.output_shape == (4, 4, 4)
    assert torch.equal(whole.top.model.conv2[0].weight, whole.setup.model.model.conv2[0].weight)
    rows = build(model=CNN, partition={"kind": "vertical", "axis": "rows"}).method
    assert rows.bottoms[0].sample_shape == (1, 4, 8)
    assert rows.merge.output_shape == (4, 4, 4)
    assert rows.merge.axis == -2


def test_layers_behind_the_merge_are_fitted():
    """Strips of 3, 3 and 2 columns: 1 + 1 + 1 behind the pooling, where the whole picture has 4."""
    method = build(num_clients=3, model=CNN).method
    assert method.merge.output_shape == (4, 4, 3)
    fc = method.top.model.fc[1]
    assert fc.in_features == 6 * 2 * 1
    assert fc.out_features == 7


def test_named_columns_and_a_client_with_fewer():
    columns = [["a", "c", "h"], ["b", "d", "e", "f", "g"]]
    sim, report = play(table=True, partition={"kind": "vertical", "columns": columns})
    assert sim.setup.inputs.shapes == ((3,), (5,))
    assert report.bytes_up["activations"] == 2 * 2 * NUM * 12 * 4
    assert report.accuracy is not None


def test_who_is_away_is_zeros():
    sim, _ = play(rounds=1, world={"participation": {"per_round": 1}})
    [present] = [client for client in range(2) if sim.devices.kept(client)]
    before = build().method.top.model.fc2[0].weight
    after = sim.method.top.model.fc2[0].weight
    of_absent = slice(12, 24) if present == 0 else slice(0, 12)
    assert torch.equal(before[:, of_absent], after[:, of_absent])
    assert not torch.equal(before, after)


def test_resumes_exactly():
    assert play(rounds=3)[1] == play(rounds=3, resume_after=1)[1]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            {"cut": [1, 2]},
            "method vertical has one cut for all clients (give a single layer as cut)",
        ),
        (
            {
                "num_clients": 3,
                "model": {"kind": "gru"},
                "method": {"kind": "vertical", "merge": "sum"},
                "partition": {"kind": "vertical", "axis": "rows"},
            },
            "method.merge sum: client 0 sends samples of shape [3, 64], client 2 of [2, 64] "
            "(give every client the same number of inputs, or set method.merge=concat)",
        ),
        (
            {"model": {"kind": "gru", "hidden": 6, "num_layers": 2}},
            "the layers before the cut do not accept client 0's share of the inputs, [1, 8, 4]: "
            "input.size(-1) must be equal to input_size. Expected 8, got 4 "
            "(lower num_clients, or change partition.axis or partition.columns)",
        ),
        (
            {"num_clients": 8, "model": CNN},
            "the layers before the cut do not accept client 0's share of the inputs, [1, 8, 1]: "
            "Given input size: (4x8x1). Calculated output size: (4x4x0). Output size is too small "
            "(lower num_clients, or change partition.axis or partition.columns)",
        ),
    ],
)
def test_refuses(config, text):
    with pytest.raises(UsageError) as error:
        build(**config)
    assert f"{error.value} ({error.value.hint})" == text
