"""Spreads, differences and ratios by hand."""

import pytest

from edgeai.collab.reports.compare_report import METRICS, compare_report


def result(miou, up_bytes, *, p50_s=0.1, segments=(), transfer=(None, None)):
    """A run's report as far as a comparison looks at it: 10 frames, 3 uploaded, 2 missed."""

    def part(name, value, bytes_up):
        shares = None if value is None else {"miou": value, "cpa": value, "accuracy": value}
        return {
            "name": name,
            "num_frames": 10,
            "num_uploads": 3,
            "num_missed": 2,
            "up_bytes": bytes_up,
            "down_bytes": 7,
            "quality": shares,
            "upload_rate": 0.3,
        }

    return {
        "evaluation": {
            "total": part("all", miou, up_bytes),
            "segments": [part(name, value, 0) for name, value in segments],
            "latency": {"p50_s": p50_s, "p95_s": 0.2, "p99_s": 0.3},
        },
        "transfer": {"bwt": transfer[0], "fwt": transfer[1]},
    }


@pytest.fixture
def report():
    """Two seeds of ours, one of which the reference lacks."""
    ours = {0: result(0.6, 300, segments=[("day", 0.7), ("fog", 0.5)]), 1: result(0.4, 100, p50_s=0.3)}
    cloud = {0: result(0.8, 1000, p50_s=0.2), 2: result(0.9, 2000)}
    edge = {0: result(0.5, 0), 1: result(0.3, 0)}
    return compare_report(
        {"laecips": ours, "cloud-only": cloud, "edge-only": edge},
        seeds=(0, 1, 2),
        against=("cloud-only", "edge-only", "ams"),
        failures={"ams-0": "why"},
    )


def versus(report, strategy, reference, metric):
    [found] = [v for v in report.versus if (v.strategy, v.reference, v.metric) == (strategy, reference, metric)]
    return found


def test_a_row_has_mean_and_range_over_seeds(report):
    row = report.rows[0]
    assert row.strategy == "laecips"
    miou, p50 = row.spreads["miou"], row.spreads["p50_s"]
    assert (miou.mean, miou.minimum, miou.maximum) == (pytest.approx(0.5), 0.4, 0.6)
    assert (p50.mean, p50.minimum, p50.maximum) == (pytest.approx(0.2), 0.1, 0.3)
    assert row.spreads["missed_frac"].mean == pytest.approx(0.2)
    assert row.values["up_bytes"] == {"0": 300.0, "1": 100.0}
    assert {name: spread.mean for name, spread in row.segment_miou.items()} == {"day": 0.7, "fog": 0.5}


def test_pairs_are_of_one_seed(report):
    miou = versus(report, "laecips", "cloud-only", "miou")
    assert miou.num_seeds == 1  # seed 0: 0.6 and 0.8; seeds 1 and 2 have no partner
    assert miou.difference.mean == pytest.approx(-0.2)
    assert miou.ratio.mean == pytest.approx(0.75)
    assert versus(report, "laecips", "cloud-only", "up_bytes").ratio.mean == pytest.approx(0.3)
    assert versus(report, "laecips", "cloud-only", "p50_s").ratio.mean == pytest.approx(0.5)
    edge = versus(report, "laecips", "edge-only", "miou")
    assert (edge.num_seeds, edge.difference.minimum, edge.difference.maximum) == (
        2,
        pytest.approx(0.1),
        pytest.approx(0.1),
    )


def test_there_is_no_ratio_to_nothing(report):
    bytes_up = versus(report, "laecips", "edge-only", "up_bytes")
    assert bytes_up.ratio is None
    assert bytes_up.difference.mean == 200.0


def test_a_reference_that_was_not_played_is_passed_over(report):
    assert {v.reference for v in report.versus} == {"cloud-only", "edge-only"}
    assert not [v for v in report.versus if v.strategy == v.reference]
    assert report.failures == {"ams-0": "why"}


def test_a_stream_without_labels_has_no_accuracy():
    report = compare_report({"laecips": {0: result(None, 5)}}, seeds=(0,), against=(), failures={})
    assert set(METRICS) - set(report.rows[0].spreads) == {"miou", "cpa", "accuracy", "bwt", "fwt"}
