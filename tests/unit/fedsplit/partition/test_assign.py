"""Oracles: every sample is assigned once; an independent implementation of the reference partition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.data import (
    DirichletConfig,
    IidConfig,
    LabelsConfig,
    NaturalConfig,
    PartitionConfig,
    QuantityConfig,
    ShardsConfig,
)
from edgeai.fedsplit.data.samples import Dataset, Samples
from edgeai.fedsplit.partition.assign import assign_rows, partition

SEED = 2


def toy(num: int = 1000, num_classes: int = 10, groups: Tensor | None = None) -> Dataset:
    """Return samples whose value is their index, with classes in random order."""
    y = torch.randint(num_classes, (num,), generator=torch.Generator().manual_seed(0))
    train = Samples(torch.arange(num, dtype=torch.float32)[:, None], y)
    names = () if groups is None else tuple(map(str, range(int(groups.max()) + 1)))
    return Dataset("toy", train, train, tuple(map(str, range(num_classes))), groups, names)


def assert_dealt_out(rows: list[Tensor], num: int) -> None:
    assert torch.cat(rows).sort().values.tolist() == list(range(num))


@pytest.mark.parametrize("cfg", [IidConfig(), DirichletConfig(), QuantityConfig(), ShardsConfig()])
def test_every_sample_is_dealt_out_once(cfg: PartitionConfig) -> None:
    assert_dealt_out(assign_rows(toy(), cfg, 5, SEED), 1000)


def test_iid_is_the_house_recipe() -> None:
    expected = np.array_split(np.random.default_rng(SEED + 1).permutation(1003), 4)
    found = assign_rows(toy(1003), IidConfig(), 4, SEED)
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]


def test_dirichlet_is_the_house_recipe() -> None:
    y = toy().train.y.numpy()
    rng = np.random.default_rng(SEED + 1)
    num_draws = 0
    while True:
        num_draws += 1
        clients: list[list[int]] = [[], [], [], []]
        for label in range(10):
            rows = np.where(y == label)[0]
            rng.shuffle(rows)
            ends = np.cumsum(rng.dirichlet([0.1, 0.1, 0.1, 0.1])) * len(rows)
            start = 0
            for client in range(4):
                end = len(rows) if client == 3 else int(ends[client])
                clients[client] += rows[start:end].tolist()
                start = end
        if min(map(len, clients)) >= 60:
            break
    assert num_draws > 1  # the retry is seen
    found = assign_rows(toy(), DirichletConfig(alpha=0.1, min_samples=60), 4, SEED)
    assert [part.tolist() for part in found] == clients


def test_dirichlet_has_enough_for_everyone() -> None:
    sizes = [len(part) for part in assign_rows(toy(), DirichletConfig(alpha=0.05), 8, SEED)]
    assert min(sizes) >= 1000 // (4 * 8)  # 64 would be half of an equal share
    with pytest.raises(UsageError) as caught:
        assign_rows(toy(20), DirichletConfig(alpha=1e-6), 20, SEED)
    assert caught.value.message.startswith("partition dirichlet: after 1000 draws client ")
    assert caught.value.message.endswith(" still has 0 samples, fewer than 1")


def test_small_alpha_parts_classes_and_large_alpha_mixes_them() -> None:
    def num_classes_of_half(alpha: float) -> float:
        y = toy(5000).train.y
        parts = assign_rows(toy(5000), DirichletConfig(alpha=alpha), 10, SEED)
        counts = [torch.bincount(y[part], minlength=10).sort(descending=True).values for part in parts]
        return float(np.mean([int((count.cumsum(0) < count.sum() / 2).sum()) + 1 for count in counts]))

    assert num_classes_of_half(0.05) <= 2
    assert num_classes_of_half(1000.0) >= 4.5


def test_shards_hold_few_classes() -> None:
    dataset = toy()
    parts = assign_rows(
        dataset, ShardsConfig(shards_per_client=2), 50, SEED
    )  # shards of 10 samples, classes of about 100
    assert [len(part) for part in parts] == [20] * 50
    assert all(len(dataset.train.y[part].unique()) <= 4 for part in parts)
    other = assign_rows(dataset, ShardsConfig(shards_per_client=2), 50, SEED + 1)
    assert any(a.tolist() != b.tolist() for a, b in zip(parts, other, strict=True))


def test_labels_gives_each_client_its_number_of_classes() -> None:
    dataset = toy()
    parts = assign_rows(dataset, LabelsConfig(classes_per_client=3), 10, SEED)
    assert all(len(dataset.train.y[part].unique()) == 3 for part in parts)
    assert_dealt_out(parts, 1000)  # ten clients begin with ten classes


def test_quantity_follows_a_power() -> None:
    sizes = [len(part) for part in assign_rows(toy(), QuantityConfig(exponent=2.0), 4, SEED)]
    assert sizes == [33, 133, 300, 534]  # shares 1, 4, 9, 16 of 30; the last client gets the rounding remainder
    y = toy().train.y
    last = assign_rows(toy(), QuantityConfig(exponent=2.0), 4, SEED)[3]
    assert torch.bincount(y[last], minlength=10).min() > 20  # classes are mixed
    with pytest.raises(UsageError) as caught:
        assign_rows(toy(50), QuantityConfig(exponent=9.0), 4, SEED)
    assert caught.value.message.startswith("partition quantity: The given specification")


def test_natural_goes_by_groups() -> None:
    groups = torch.arange(1000) % 7
    dataset = toy(groups=groups)
    each = assign_rows(dataset, NaturalConfig(), 7, SEED)
    assert [groups[part].unique().tolist() for part in each] == [[n] for n in range(7)]
    assert_dealt_out(each, 1000)
    three = assign_rows(dataset, NaturalConfig(), 3, SEED)
    assert [groups[part].unique().tolist() for part in three] == [[0, 3, 6], [1, 4], [2, 5]]
    assert_dealt_out(three, 1000)
    with pytest.raises(UsageError) as caught:
        assign_rows(dataset, NaturalConfig(), 8, SEED)
    assert caught.value.message == "partition natural: client 7 gets no samples: 7 groups for 8 clients"
    with pytest.raises(UsageError) as caught:
        assign_rows(toy(), NaturalConfig(), 2, SEED)
    assert caught.value.message == "partition natural: toy has no groups, such as authors, of its samples"


@pytest.mark.parametrize(
    ("cfg", "num_clients", "text"),
    [
        (IidConfig(), 1001, "partition: 1001 clients for 1000 samples leave clients without samples"),
        (ShardsConfig(shards_per_client=3), 400, "partition.shards_per_client: 1200 shards of 1000 samples"),
        (LabelsConfig(classes_per_client=11), 4, "partition.classes_per_client: 11 of 10 classes"),
    ],
)
def test_more_than_there_is(cfg: PartitionConfig, num_clients: int, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        assign_rows(toy(), cfg, num_clients, SEED)
    assert caught.value.message == text


def test_clients_get_their_samples() -> None:
    dataset = toy()
    parts = partition(dataset, IidConfig(), 3, SEED)
    rows = assign_rows(dataset, IidConfig(), 3, SEED)
    for part, found in zip(parts, rows, strict=True):
        assert part.x.flatten().long().tolist() == found.tolist()
        assert part.y.tolist() == dataset.train.y[found].tolist()
