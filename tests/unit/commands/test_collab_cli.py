"""`edgeai collab run` as a person meets it, on the smoke config."""

import json

import pytest

from edgeai.cli import main
from edgeai.collab.reports.frame_records import read_records
from edgeai.collab.sim import run as collab_run

SHORT = ["-c", "collab/smoke", "--device=cpu", "-s", "stream.source.num_frames=12", "-s", "miner.steps=1"]
CALM = ["-s", "probe_frames=0", "-s", "strategy=edge-only", "-s", "shadow_cloud=false"]


@pytest.fixture
def collab(tmp_path, monkeypatch, capsys):
    """collab("run", ...): exit code, stdout and stderr, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*args):
        code = main(["collab", *args])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_a_run_prints_a_table_and_leaves_a_report(collab, tmp_path):
    code, out, _ = collab("run", *SHORT, "--out", "r", "-q")
    assert code == 0
    assert out.startswith("Strategy laecips on 12 frames, ")
    rows = [line.split() for line in out.splitlines()]
    assert ["answers", "mIoU", "CPA", "pixel", "accuracy", "FWIoU"] in rows
    assert [row[:2] for row in rows if row[-1:] == ["cloud"]] == [["upload", "rate"]]
    assert any(row[:2] == ["simulator,", "wall"] for row in rows)
    assert len(list(read_records(tmp_path / "r"))) == 12
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert report["evaluation"]["total"]["num_frames"] == 12
    assert "cost" not in report
    assert (tmp_path / "r" / "overlays" / "000010.npz").exists()


def test_json_is_one_document(collab):
    code, out, _ = collab("run", *SHORT, *CALM, "--json", "-q")
    document = json.loads(out)
    assert code == 0
    assert document["strategy"] == "edge-only"
    assert document["cost"]["frames_per_s"] > 0


def test_a_plan_runs_nothing(collab, tmp_path):
    code, out, _ = collab("run", "-c", "collab/default", "--dry-run")
    assert code == 0
    assert "strategy: laecips" in out
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_reports_and_exits_130(collab, monkeypatch, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(collab_run._Progress, "count", stop)
    code, out, _ = collab("run", *SHORT, *CALM, "--out", "r", "--json", "-q")
    assert code == 130
    assert json.loads(out)["error"]["message"] == "interrupted"
    assert json.loads((tmp_path / "r" / "report.json").read_text())["interrupted"] is True
    assert json.loads((tmp_path / "r" / "run.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-s", "strategy=laecip"], "strategy"),
        (["-s", "edge.model.weights=/no/such/net"], "no weights in /no/such/net"),
        (["-s", "cloud.masks.kind=python", "-s", "cloud.masks.path=no.py"], "no Python file at no.py"),
        (["-s", "stream.source.kind=images", "-s", "stream.source.path=nowhere"], "nowhere"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(collab, options, message):
    code, _, err = collab("run", *SHORT[:3], *options, "-q")
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_the_default_config_is_what_it_says(collab):
    from edgeai.collab.config.run import CollabRunConfig
    from edgeai.core.config import load_config

    cfg = load_config(CollabRunConfig, "collab/default")
    drift = cfg.stream.drift
    assert [segment.name for segment in drift] == ["day", "night", "fog", "rain", "new looks", "day again"]
    rest = cfg.stream.source.num_frames - sum(segment.num_frames or 0 for segment in drift)
    assert rest == 50
    assert max(cfg.overlays) < cfg.stream.source.num_frames
