"""The report of `fedsplit partition` as tables and a picture."""

from __future__ import annotations

import json

import pytest
import torch

from edgeai.core.report.blocks import Figure, Table
from edgeai.core.report.page import render_page
from edgeai.fedsplit.config.data import (
    DigitsConfig,
    IidConfig,
    NaturalConfig,
    PartitionConfig,
    VerticalPartitionConfig,
)
from edgeai.fedsplit.data.samples import Dataset, Samples
from edgeai.fedsplit.partition import describe
from edgeai.fedsplit.partition.describe import describe_partition
from edgeai.fedsplit.reports.partition_page import partition_blocks


@pytest.mark.parametrize("cfg", [IidConfig(), VerticalPartitionConfig()])
def test_page(cfg: PartitionConfig) -> None:
    report = describe_partition(DigitsConfig(), cfg, num_clients=4, seed=0)
    whole, picture, table = partition_blocks(json.loads(json.dumps(report.to_json())))
    assert isinstance(whole, Table)
    assert ("training samples", 1438) in [row[:2] for row in whole.rows]
    assert isinstance(picture, Figure)
    assert picture.alt.startswith("digits: 1,438 training samples for 4 clients, ")
    assert isinstance(table, Table)
    assert [row[1] for row in table.rows] == ([360, 360, 359, 359] if cfg.kind == "iid" else [1438] * 4)
    assert table.columns[:4] == ["client", "samples", "0", "1"]
    assert (table.columns[-1] == "inputs") is (cfg.kind == "vertical")
    assert render_page("partition", [whole, picture, table])


def test_values_come_with_label_and_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    report = _natural(monkeypatch, num_classes=3)
    whole, _, table = partition_blocks(report)
    assert isinstance(whole, Table)
    found = {row[0]: (row[1], row[2]) for row in whole.rows}
    assert found["unused samples"] == (0, "training samples that no client holds")
    assert getattr(found["mean label distance"][0], "text", "") == "0.500"
    assert isinstance(table, Table)
    assert table.columns == ["client", "samples", "c0", "c1", "c2", "label distance", "groups"]
    assert [[getattr(cell, "text", cell) for cell in row] for row in table.rows] == [
        [0, 4, 4, 0, 0, "0.500", "ann"],
        [1, 4, 0, 2, 2, "0.500", "bob"],
    ]
    assert "Label distance: total variation between" in table.caption


def test_many_classes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, table = partition_blocks(_natural(monkeypatch, num_classes=13))
    assert isinstance(table, Table)
    assert table.columns == ["client", "samples", "label distance", "groups", "classes"]
    assert [row[4] for row in table.rows] == [1, 2]


def test_long_pages_say_what_they_leave_out() -> None:
    report = describe_partition(DigitsConfig(), IidConfig(), num_clients=120, seed=0)
    _, picture, table = partition_blocks(report.to_json())
    assert isinstance(picture, Figure)
    assert isinstance(table, Table)
    assert picture.caption.endswith("The first 60 of 120.")
    assert len(table.rows) == 100
    assert table.caption.startswith("The first 100 of 120 clients.")


def _natural(monkeypatch: pytest.MonkeyPatch, *, num_classes: int) -> dict[str, object]:
    train = Samples(torch.randn(8, 1, 4, 4), torch.tensor([0, 0, 0, 0, 1, 1, 2, 2]))
    classes = tuple(f"c{label}" for label in range(num_classes))
    groups = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    dataset = Dataset("toy", train, train, classes, groups=groups, group_names=("ann", "bob"))
    monkeypatch.setattr(describe, "load_data", lambda _: dataset)
    return describe_partition(DigitsConfig(), NaturalConfig(), num_clients=2, seed=0).to_json()
