import json
from typing import Literal

import pytest

from edgeai.cli import main
from edgeai.core.config import Config
from edgeai.core.run import Run


class Cook(Config):
    verb: Literal["kitchen cook"] = "kitchen cook"


@pytest.fixture
def run(tmp_path):
    run = Run.create(Cook(), out=tmp_path / "r", argv=["edgeai", "kitchen"], device="cpu", device_why="asked")
    run.metrics.log(1, {"loss": 2.0})
    run.metrics.log(2, {"loss": 1.0})
    run.finish("done", {"accept_len": 2.5})
    return run


def test_list(run, capsys):
    assert main(["runs", "list", str(run.path.parent), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["path"], row["verb"], row["status"], row["device"]) == (str(run.path), "kitchen cook", "done", "cpu")
    assert main(["runs", "list", str(run.path.parent)]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["path", str(run.path)]


def test_list_of_nothing(tmp_path, capsys):
    assert main(["runs", "list", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no runs in {tmp_path}\n"
    assert main(["runs", "list", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_show(run, capsys):
    assert main(["runs", "show", str(run.path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["report"] == {"accept_len": 2.5}
    assert (document["last_metrics"]["step"], document["last_metrics"]["loss"]) == (2, 1.0)
    assert main(["runs", "show", str(run.path)]) == 0
    text = capsys.readouterr().out
    assert "argv        edgeai kitchen\n" in text
    assert text.endswith("report\naccept_len  2.5\n")


def test_show_what_is_no_run(tmp_path, capsys):
    assert main(["runs", "show", str(tmp_path), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"] == {
        "message": f"{tmp_path} is no run directory: it has no readable run.json",
        "hint": "list them: edgeai runs list",
        "exit_code": 2,
    }
