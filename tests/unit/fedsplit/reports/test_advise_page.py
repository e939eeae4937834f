"""The page shows what the report says, also after a way through JSON."""

import json
from dataclasses import replace
from pathlib import Path

from edgeai.core.report.blocks import Block, Figure, Heading, Table
from edgeai.core.report.page import render_page
from edgeai.fedsplit.advise.choices import advise
from edgeai.fedsplit.advise.crossover import Counted
from edgeai.fedsplit.config.advise import AdviseConfig, TransformerShapeConfig
from edgeai.fedsplit.reports.advise_page import (
    advise_details,
    advise_summary,
    choice_table,
    crossover_figure,
    crossover_table,
)
from edgeai.fedsplit.reports.advise_report import AdviseReport

SMALL = AdviseConfig.model_validate({"methods": ["fedavg", "psl", "cse-fsl"], "samples_per_client": 100})


def advise_blocks(report: AdviseReport) -> list[Block]:
    document = json.loads(json.dumps(report.to_json()))
    return [*advise_summary(document), *advise_details(Path(), document)]


def test_a_report_comes_back_from_json_as_it_was() -> None:
    report = advise(SMALL)
    assert AdviseReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_the_page_has_every_choice_and_both_pictures() -> None:
    report = advise(SMALL)
    blocks = advise_blocks(report)
    assert [block.text for block in blocks if isinstance(block, Heading)] == [
        "The Pareto set",
        "Limitations",
        "Time against traffic",
        "Federated or split: the crossover",
        "Where the model can be cut",
        "All choices",
    ]
    figures = [block for block in blocks if isinstance(block, Figure)]
    assert len(figures) == 2
    assert all(choice.name in figures[0].alt for choice in report.best)
    assert figures[1].alt == (
        "Split learning moves more bytes: cut after conv1: from 52 samples on; cut after conv2: from 147 samples on; "
        "cut after fc1: from 91 samples on; cut after fc2: from 10 samples on"
    )
    everything = [block for block in blocks if isinstance(block, Table)][-1]
    assert sorted((row[0], row[1]) for row in everything.rows if row[1]) == sorted(
        (choice.method, choice.cut) for choice in report.choices if choice.cut
    )
    page = render_page("advise", blocks)
    assert all(line.replace("&", "&amp;") in page for line in report.recommendation)


def test_the_crossover_table_shows_the_published_samples() -> None:
    table = crossover_table(advise(SMALL).crossovers)
    assert [(row[0], row[3]) for row in table.rows] == [("conv1", 52), ("conv2", 148), ("fc1", 92), ("fc2", 10)]


def test_counted_points_lie_on_top() -> None:
    report = advise(SMALL)
    counted = replace(report, counted=(Counted("", 100, 493_648), Counted("conv2", 100, 341_376)))
    plain, marked = crossover_figure(report), crossover_figure(counted)
    assert plain.image != marked.image
    assert marked.caption == plain.caption + " Crosses: counted by the ledger in simulated rounds."


def test_a_deep_model_has_a_short_page() -> None:
    cfg = AdviseConfig(model=TransformerShapeConfig(layers=8, width=16, heads=2, kv_heads=2, ffn=8, vocab=10, seq=4))
    report = advise(cfg)
    tables = [block for block in advise_blocks(report) if isinstance(block, Table)]
    assert len(tables[-1].rows) == 60
    assert tables[-1].caption.startswith(f"Cost of one round, fastest first. The 60 fastest of {len(report.choices)};")
    figure = crossover_figure(report)
    assert [name for name in report.crossovers if f"cut after {name.cut}:" in figure.alt] == [
        report.crossovers[number] for number in (0, 2, 4, 7, 9)
    ]


def test_whether_choices_fit_is_shown() -> None:
    tight = {"flops_per_s": 1e12, "memory_bytes": 3_000_000, "compute_w": 1, "idle_w": 1, "tx_w": 1, "rx_w": 1}
    report = advise(AdviseConfig.model_validate({"methods": ["fedavg", "psl"], "world": {"devices": [tight]}}))
    table = choice_table(report.choices, "")
    fits = {(row[0], row[1]): row[table.columns.index("fits")] for row in table.rows}
    assert fits == {
        ("fedavg", None): False,  # 3.57 MB
        ("psl", "conv1"): True,  # 2.01 MB
        ("psl", "conv2"): True,  # 2.94 MB
        ("psl", "fc1"): False,
        ("psl", "fc2"): False,
    }
    assert [choice.name for choice in report.best] == ["psl cut after conv2", "psl cut after conv1"]
