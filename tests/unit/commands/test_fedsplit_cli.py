"""`edgeai fedsplit` as a person meets it."""

import json
import re

import pytest

from edgeai.cli import main
from edgeai.core.run import Run

SMOKE = ["-c", "fedsplit/smoke", "--device=cpu", "-q"]


@pytest.fixture
def fedsplit(tmp_path, monkeypatch, capsys):
    """fedsplit("sim", ...): exit code, stdout and stderr, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*args):
        code = main(["fedsplit", *args])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_a_run_prints_rounds_and_costs(fedsplit, tmp_path):
    code, out, _ = fedsplit("sim", *SMOKE, "--out", "r")
    assert code == 0
    lines = out.splitlines()
    start = lines.index("Rounds") + 1
    columns = "round clients late loss accuracy up down virtual time energy of clients energy of server"
    assert " ".join(lines[start].split()) == columns
    assert [line.split()[0] for line in lines[start + 1 : start + 3]] == ["1", "2"]
    fields = [line.split("  ")[0] for line in lines[1:9]]
    assert fields == [
        "method",
        "cut after",
        "clients",
        "parameters",
        "accuracy",
        "best accuracy",
        "virtual time",
        "energy of clients",
    ]
    assert "Laplace noise (scale 0.1)" in out
    assert json.loads((tmp_path / "r" / "report.json").read_text())["method"] == "splitfed-v1"
    notes = (tmp_path / "r" / "log.txt").read_text()
    assert re.search(r"round 2/2, loss [\d.]+, accuracy [\d.]+%, [\d.]+ [kM]B and [\d.]+ m?s of virtual time", notes)


def test_json_is_one_document(fedsplit):
    code, out, _ = fedsplit("sim", *SMOKE, "--json")
    document = json.loads(out)
    assert code == 0
    assert document["run"].startswith("runs")
    assert len(document["rounds"]) == 2


def test_a_plan_trains_nothing(fedsplit, tmp_path):
    code, out, _ = fedsplit("sim", "-c", "fedsplit/smoke", "--dry-run")
    assert code == 0
    words = " ".join(out.split())
    assert "samples of each client 67, 67, 66" in words
    assert "layer parameters forward output cut sends client's share" in words
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["method.kind=splitfd-v2"], 'did you mean "splitfed-v2"'),
        (["cut=conv9"], 'cut: no layer "conv9"'),
        (["cut=out"], 'cut: "out" leaves the server without a layer'),
        (["num_clients=300"], "partition: 300 clients for 200 samples leave clients without samples"),
        (["codec.up.kind=topk", "codec.up.k=99999"], "codec.up"),
        (["world.devices=[raspberry-pie-4]"], 'did you mean "raspberry-pi-4"'),
        (["method.kind=vertical"], "method vertical needs partition.kind vertical"),
        (["world.participation.per_round=9"], "per_round is 9, but there are only 3 clients"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(fedsplit, tmp_path, changes, words):
    code, out, err = fedsplit("sim", *SMOKE, "--out", "r", *(part for change in changes for part in ("-s", change)))
    assert code == 2
    assert out == ""
    assert words in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) <= 2


def test_a_file_with_missing_columns_is_refused(fedsplit, tmp_path):
    (tmp_path / "t.csv").write_text("age,income\n1,a\n2,b\n3,a\n4,b\n")
    code, _, err = fedsplit("sim", *SMOKE, "-s", "data={kind: csv, path: t.csv, label: incom}", "-s", "model.kind=mlp")
    assert code == 2
    assert '"incom"' in err
    assert '"income"' in err


def test_a_loss_that_is_no_number_fails_with_json(fedsplit, tmp_path):
    code, out, _ = fedsplit("sim", *SMOKE, "--json", "--out", "r", "-s", "optim.lr=1e30", "-s", "privacy.noise=null")
    assert code == 1
    assert json.loads(out)["error"]["message"].startswith("the training loss is")
    assert (tmp_path / "r" / "report.json").exists()


def test_resume_takes_everything_from_the_run(fedsplit, tmp_path):
    assert fedsplit("sim", *SMOKE, "--out", "r")[0] == 0
    code, _, err = fedsplit("sim", "--resume", "r", "-s", "rounds=3")
    assert code == 2
    assert "--resume takes its config and folder from the run" in err


def test_a_run_becomes_a_page(fedsplit, tmp_path, capsys):
    assert fedsplit("sim", *SMOKE, "--out", "r")[0] == 0
    assert main(["runs", "report", "r"]) == 0
    page = (tmp_path / "r" / "report.html").read_text()
    for words in ("Accuracy against cost", "Traffic by kind.", "The first round", "Partition", "Privacy"):
        assert words in page
    assert page.count("<svg") >= 7


def test_a_comparison_runs_every_job_once_and_goes_on(fedsplit, tmp_path):
    few = ["-s", "cuts=[]", "-s", "processes=1"]
    code, out, _ = fedsplit("compare", "-c", "fedsplit/compare-smoke", "-q", "--out", "c", *few)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[3:5]] == ["fedavg", "splitfed-v2"]
    assert re.search(r"[\d.]+ [kM]B, [\d.]+ m?s of virtual time", (tmp_path / "c" / "log.txt").read_text())
    kept = (tmp_path / "c" / "fedavg-0" / "report.json").stat().st_mtime_ns
    (tmp_path / "c" / "splitfed-v2-0" / "report.json").unlink()
    report = json.loads((tmp_path / "c" / "report.json").read_text())
    assert fedsplit("compare", "--resume", "c", "-q")[0] == 0
    assert (tmp_path / "c" / "fedavg-0" / "report.json").stat().st_mtime_ns == kept
    assert json.loads((tmp_path / "c" / "report.json").read_text()) == report
    assert main(["runs", "report", "c"]) == 0
    assert "Accuracy against cost" in (tmp_path / "c" / "report.html").read_text()


def test_a_run_that_fails_leaves_the_others(fedsplit, tmp_path):
    changes = ["cuts=[]", "processes=1", "methods=[{kind: fedavg}, {kind: fedadam, server_lr: 1e38, tau: 1e-38}]"]
    options = [part for change in changes for part in ("-s", change)]
    code, out, _ = fedsplit("compare", "-c", "fedsplit/compare-smoke", "-q", "--json", "--out", "c", *options)
    document = json.loads(out)
    assert code == 1
    assert [row["label"] for row in document["rows"]] == ["fedavg"]
    assert list(document["failures"]) == ["fedadam-0"]
    assert document["failures"]["fedadam-0"].startswith("the training loss is nan in round 2")


def test_a_plan_of_a_comparison_names_its_runs(fedsplit):
    code, out, _ = fedsplit("compare", "-c", "fedsplit/compare-smoke", "--dry-run")
    assert code == 0
    assert out.splitlines() == [
        "fedavg-0",
        "splitfed-v2-cut-conv1-0",
        "splitfed-v2-cut-conv2-0",
        "",
        "3 of 3 runs to do",
    ]


def test_advise_recommends_and_makes_a_page(fedsplit, tmp_path):
    code, out, _ = fedsplit("advise", "-q", "--out", "a", "-s", "methods=[fedavg, relay, splitfed-v2]")
    assert code == 0
    assert "Balanced choice:" in out
    assert Run.open(tmp_path / "a").status == "done"
    assert main(["runs", "report", "a"]) == 0
    assert "crossover" in (tmp_path / "a" / "report.html").read_text()


def test_partition_shows_who_has_what(fedsplit, tmp_path):
    code, out, _ = fedsplit("partition", "-c", "fedsplit/smoke", "--page", "p.html")
    assert code == 0
    rows = [line.split()[:2] for line in out.splitlines()]
    assert [row for row in rows if row[:1] in (["0"], ["1"], ["2"])] == [["0", "67"], ["1", "67"], ["2", "66"]]
    assert "<svg" in (tmp_path / "p.html").read_text()
    code, out, _ = fedsplit("partition", "-c", "fedsplit/smoke", "--json")
    assert json.loads(out)["kind"] == "iid"
