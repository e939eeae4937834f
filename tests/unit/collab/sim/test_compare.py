"""Comparisons of a tiny system: results equal to single runs, saved one by one."""

import json

import pytest

from edgeai.collab.cloud.answer_store import AnswerStore
from edgeai.collab.cloud.models import CloudModels
from edgeai.collab.config.run import CollabCompareConfig
from edgeai.collab.reports.frame_records import read_records
from edgeai.collab.sim import compare
from edgeai.collab.sim.compare import run_compare
from edgeai.core.errors import EdgeAIError
from edgeai.core.files import json_text


def config(toy_config, *strategies, seeds=(0,), **changes):
    return CollabCompareConfig.model_validate(
        {"run": {**toy_config, "probe_frames": 2, **changes}, "strategies": strategies, "seeds": seeds}
    )


@pytest.fixture
def toy_config():
    """What `toy` plays with."""
    return {
        "miner": {"steps": 5, "hidden": 4, "min_frames": 4},
        "update": {
            "steps": 5,
            "lr": 0.02,
            "every_frames": 8,
            "compute_s": 0.5,
            "refresh_prior": 0,
            "replay": {"capacity": 40, "newest": 20},
        },
        "link": {"up_bps": 1e12, "down_bps": 1e12, "delay_s": 0.0},
        "compute": {"edge_s": 0.03, "encode_s": 0.002, "cloud_s": 0.05},
    }


@pytest.fixture
def start(tmp_path, monkeypatch, toys, start_run):
    """start(cfg): a run directory and the testbeds that were built for it, one a seed."""
    *_, cloud, testbed_class = toys
    built = []

    def build(cfg, device, max_bytes=0):
        testbed = testbed_class()
        store = AnswerStore(CloudModels(cloud(), testbed.masks, cfg.cloud.fusion).answer)
        testbed.cloud = lambda config: store
        testbed.store = store
        testbed.first_image = lambda: next(testbed.stream.frames()).image
        built.append(testbed)
        return testbed

    monkeypatch.setattr(compare, "Testbed", build)

    def run(cfg, name="c"):
        built.clear()
        return start_run(cfg, tmp_path / name), built

    return run


def uploads(folder):
    return sum(record.uploaded for record in read_records(folder))


def test_each_run_equals_a_separate_run(start, toy, toy_config):
    cfg = config(toy_config, "edge-only", "laecips", "cloud-only")
    run, [*_] = start(cfg)
    report = run_compare(cfg, run)
    for strategy in cfg.strategies:
        alone = json_text(toy(strategy).report.to_json()) + "\n"
        assert (run.path / f"{strategy}-0" / "report.json").read_text() == alone
    assert [row.strategy for row in report.rows] == ["edge-only", "laecips", "cloud-only"]
    assert {versus.reference for versus in report.versus} == {"laecips", "cloud-only"}


def test_stream_and_answers_are_shared(start, toy_config):
    cfg = config(toy_config, "edge-only", "laecips", "cloud-only", upload={"adapt": False})
    run, built = start(cfg)
    run_compare(cfg, run)
    [testbed] = built
    assert testbed.stream.is_recorded
    assert testbed.store.num_computed == 60  # every frame once, for all three


def test_random_draws_as_many_frames_as_laecips_uploaded(start, toy_config):
    cfg = config(toy_config, "random", "laecips", seeds=(0, 1))
    run, _ = start(cfg)
    report = run_compare(cfg, run)
    for seed in (0, 1):
        # a perfect link and a free cloud: what is drawn arrives
        assert uploads(run.path / f"random-{seed}") == uploads(run.path / f"laecips-{seed}") > 0
    assert [row.strategy for row in report.rows] == ["random", "laecips"]  # in the order that was asked for


def test_an_interrupted_comparison_is_continued(start, toy_config, monkeypatch):
    cfg = config(toy_config, "edge-only", "random", "cloud-only")
    whole, _ = start(cfg, "whole")
    expected = run_compare(cfg, whole)
    run, _ = start(cfg)
    played = []
    play = compare.play

    def stopped(testbed, cfg, **options):
        played.append(cfg.strategy)
        if len(played) == 2:
            raise KeyboardInterrupt
        return play(testbed, cfg, **options)

    monkeypatch.setattr(compare, "play", stopped)
    report = run_compare(cfg, run)
    assert report.interrupted
    assert [row.strategy for row in report.rows] == ["edge-only"]
    assert run_compare(cfg, run) == expected
    assert played == ["edge-only", "random", "random", "cloud-only"]
    played.clear()
    run_compare(cfg, run)
    assert played == []


def test_a_result_of_another_config_is_recomputed(start, toy_config):
    first = config(toy_config, "random", upload_rate=0.2)
    run, _ = start(first)
    run_compare(first, run)
    before = uploads(run.path / "random-0")
    run_compare(config(toy_config, "random", upload_rate=0.9), run)
    assert uploads(run.path / "random-0") > before


def test_one_failure_does_not_stop_the_others(start, toy_config, monkeypatch):
    cfg = config(toy_config, "laecips", "random", "edge-only")
    run, _ = start(cfg)
    play = compare.play

    def failing(testbed, cfg, **options):
        if cfg.strategy == "laecips":
            raise EdgeAIError("no room")
        return play(testbed, cfg, **options)

    monkeypatch.setattr(compare, "play", failing)
    report = run_compare(cfg, run)
    assert report.failures == {
        "laecips-0": "no room",
        "random-0": "it needs the upload rate of laecips, which failed",
    }
    assert [row.strategy for row in report.rows] == ["edge-only"]
    only = config(toy_config, "laecips")
    run, _ = start(only, "only")
    with pytest.raises(EdgeAIError, match="all runs failed; first error: no room"):
        run_compare(only, run)


def test_an_unusable_shared_config_fails_at_once(start, toy_config, tmp_path):
    trace = tmp_path / "t.csv"
    trace.write_text("t_s,up_kbps\n0,5\n")
    cfg = config(toy_config, "edge-only", "random", link={"trace": str(trace)})
    run, _ = start(cfg)
    with pytest.raises(EdgeAIError):
        run_compare(cfg, run)
    assert not (run.path / "edge-only-0").exists()


def test_costs_are_metrics_and_no_part_of_a_report(start, toy_config):
    cfg = config(toy_config, "edge-only")
    run, _ = start(cfg)
    run_compare(cfg, run)
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["frames_per_s"] > 0
    assert "wall_s" not in (run.path / "edge-only-0" / "report.json").read_text()
