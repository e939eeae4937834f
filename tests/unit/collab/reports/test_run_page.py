"""Pages of tiny runs: they say what the records say."""

import dataclasses
import json
import re

import pytest

from edgeai.collab.reports.compare_page import compare_details, compare_summary
from edgeai.collab.reports.compare_report import compare_report
from edgeai.collab.reports.run_page import run_details, run_summary
from edgeai.core.files import json_text, write_whole
from edgeai.core.report.blocks import Figure, Heading, Number, Strip, Table
from edgeai.core.report.page import render_page


def plain(report):
    return json.loads(json_text(report.to_json()))


def tables(blocks, *, with_column):
    return [block for block in blocks if isinstance(block, Table) and with_column in block.columns]


def run_blocks(folder, report):
    return [*run_summary(report), *run_details(folder, report)]


def headings(blocks):
    return [block.text for block in blocks if isinstance(block, Heading)]


@pytest.fixture
def played(toy):
    return toy("laecips", overlays=[10, 40], evaluate={"window_s": 2.0})


def test_a_runs_page_says_what_the_run_found(played):
    report = plain(played.report)
    blocks = run_blocks(played.folder, report)
    quality, segments = tables(blocks, with_column="FWIoU")[0], tables(blocks, with_column="segment")[0]
    total = played.report.evaluation.total
    assert quality.rows[0][:2] == ["answers shown", Number(total.quality.miou, f"{total.quality.miou:.3f}")]
    assert [row[0] for row in quality.rows] == ["answers shown", "edge alone", "cloud alone"]
    assert [row[:3] for row in segments.rows] == [["day", Number(0.0, "0 s"), 30], ["dusk", Number(6.0, "6 s"), 30]]
    values = {row[0]: row[1] for row in tables(blocks, with_column="meaning")[0].rows}
    assert values["uplink"].value == sum(record.up_bytes for record in played.records)
    assert values["upload rate"].value == sum(record.uploaded for record in played.records) / 60
    assert [block.caption[:8] for block in blocks if isinstance(block, Strip)] == ["Frame 10", "Frame 40"]
    assert headings(blocks) == [
        "Drift segments",
        "Cost",
        "Over time",
        "Classes",
        "Frames",
        "Link and queues",
        "Updates",
    ]


def test_curves_are_means_of_the_records(played):
    figure = next(block for block in run_blocks(played.folder, plain(played.report)) if isinstance(block, Figure))
    last = [record for record in played.records if record.time_s >= 10.0]  # of 12 s, in windows of 2 s
    mean = 1 - sum(record.loss for record in last) / len(last)
    assert f"answers shown at the end {mean:.3g};" in figure.alt
    assert "Shaded in turn" in figure.caption
    assert ">day<" in figure.image
    assert ">dusk<" in figure.image


def test_the_page_is_whole_and_fetches_nothing(played):
    page = render_page("t", run_blocks(played.folder, plain(played.report)))
    assert page.count("<svg") == page.count("</svg>") >= 5
    assert not re.search(r'(src|href)="https?:', page)
    assert "nan" not in re.sub(r"<[^>]*>", " ", page)  # data URIs lie inside of tags


def test_a_run_without_labels_uploads_or_records_still_has_a_page(toy, toys):
    stream_class, *_, bench_class = toys

    class Unlabelled(stream_class):
        def frame(self, index):
            return dataclasses.replace(super().frame(index), labels=None)

    played = toy("edge-only", testbed=bench_class(stream=Unlabelled(12, dark_from=99)), probe_frames=0)
    (played.folder / "frames.jsonl").unlink()
    blocks = run_blocks(played.folder, plain(played.report))
    assert "The stream has no labels: accuracy is not known." in render_page("t", blocks)
    assert headings(blocks) == ["Cost", "Link and queues"]


@pytest.fixture
def compared(toy, tmp_path):
    """Three strategies, two seeds each, in the folders of a comparison."""
    results = {}
    for strategy in ("edge-only", "laecips", "cloud-only"):
        for seed in (0, 1):
            run = toy(strategy, seed=seed, evaluate={"window_s": 2.0}, overlays=[10] if strategy == "laecips" else [])
            run.folder.rename(tmp_path / f"{strategy}-{seed}")
            write_whole(tmp_path / f"{strategy}-{seed}" / "report.json", json_text(run.report.to_json()))
            results.setdefault(strategy, {})[seed] = plain(run.report)
    report = compare_report(results, seeds=(0, 1), against=("laecips",), failures={"ams-0": "too <bad>"})
    return tmp_path, plain(report), results


def test_a_comparisons_page_has_a_row_for_each_strategy(compared):
    folder, report, results = compared
    blocks = [*compare_summary(report), *compare_details(folder, report)]
    main, versus = tables(blocks, with_column="mIoU")[0], tables(blocks, with_column="mIoU −")[0]
    assert [row[0] for row in main.rows] == ["edge-only", "laecips", "cloud-only"]
    mious = [results["laecips"][seed]["evaluation"]["total"]["quality"]["miou"] for seed in (0, 1)]
    cell = main.rows[1][1]
    assert cell.value == pytest.approx(sum(mious) / 2)
    low, high = sorted(f"{miou:.3f}" for miou in mious)
    assert cell.text == f"{cell.value:.3f}"
    ranges = tables(blocks, with_column="pixel accuracy")[1]
    assert ranges.rows[1][1].text == (low if low == high else f"{cell.text} ({low} to {high})")
    assert [row[0] for row in versus.rows] == ["edge-only", "cloud-only"]
    assert headings(blocks) == [
        "Range over seeds",
        "Failures",
        "Against laecips",
        "Drift segments",
        "Accuracy against cost",
        "Over time",
        "Frames",
    ]
    page = render_page("t", blocks)
    assert "too &lt;bad&gt;" in page
    assert page.count("<svg") == page.count("</svg>") == 2 + 3 + 1  # two of cost, three of time, colours of classes
