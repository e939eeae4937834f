"""Run directories."""

import json
import os
import subprocess
import sys
from typing import Literal

import pytest

from edgeai.core.config import Config, load_config
from edgeai.core.errors import UsageError
from edgeai.core.run import Run, find_runs, process_start


class Cook(Config):
    verb: Literal["kitchen cook"] = "kitchen cook"
    dish: str = "soup"
    seed: int = 4


def create(out, **changes):
    how = {"argv": ["edgeai", "kitchen", "cook"], "device": "cpu", "device_why": "asked", "threads": 2, **changes}
    return Run.create(Cook(dish="off"), out=out, **how)


def test_round_trip(tmp_path):
    run = create(tmp_path / "r")
    assert load_config(Cook, run.config_path) == Cook(dish="off")
    opened = Run.open(tmp_path / "r")
    assert opened.info == run.info
    assert (opened.status, opened.device, opened.report()) == ("running", "cpu", None)
    assert opened.info["argv"] == ["edgeai", "kitchen", "cook"]
    assert (opened.info["seed"], opened.info["threads"], opened.info["verb"]) == (4, 2, "kitchen cook")
    assert opened.info["versions"]["python"] == sys.version.split()[0]


def test_finish_writes_report_and_status(tmp_path):
    create(tmp_path / "r").finish("done", {"loss": float("nan"), "n": 3})
    opened = Run.open(tmp_path / "r")
    assert (opened.status, opened.report()) == ("done", {"loss": None, "n": 3})
    assert opened.info["finished"] >= opened.info["started"]


def test_go_on(tmp_path):
    create(tmp_path / "r").finish("interrupted")
    run = Run.open(tmp_path / "r")
    run.go_on(["edgeai", "--resume"], device="cuda:0", device_why="auto")
    opened = Run.open(tmp_path / "r")
    assert (opened.status, opened.device, opened.info["finished"]) == ("running", "cuda:0", None)
    assert opened.info["resumed"][0]["argv"] == ["edgeai", "--resume"]


def test_a_run_that_is_still_running_is_not_gone_on_with(tmp_path):
    create(tmp_path / "r")
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    path = tmp_path / "r" / "run.json"
    changed = {"pid": other.pid, "process_start": process_start(other.pid)}
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    try:
        with pytest.raises(UsageError) as caught:
            Run.open(tmp_path / "r").go_on(["edgeai"], device="cpu", device_why="auto")
    finally:
        other.communicate(b"")
    assert str(caught.value) == f"{tmp_path / 'r'} is still running, as process {other.pid}"
    Run.open(tmp_path / "r").go_on(["edgeai"], device="cpu", device_why="auto")


@pytest.mark.skipif(process_start(os.getpid()) is None, reason="the start of a process is unknown here")
def test_another_process_with_the_number_of_the_old_one_is_not_the_run(tmp_path):
    create(tmp_path / "r")
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    path = tmp_path / "r" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": other.pid}))  # with the start of this process
    try:
        assert Run.open(tmp_path / "r").status == "killed"
        Run.open(tmp_path / "r").go_on(["edgeai"], device="cpu", device_why="auto")
        info = json.loads(path.read_text())
        assert (info["pid"], info["process_start"]) == (os.getpid(), process_start(os.getpid()))
        old = {**info, "pid": other.pid}
        del old["process_start"]  # as earlier versions wrote it
        path.write_text(json.dumps(old))
        assert Run.open(tmp_path / "r").status == "running"
    finally:
        other.communicate(b"")


def test_run_whose_process_is_gone_was_killed(tmp_path):
    create(tmp_path / "r")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path = tmp_path / "r" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": gone.pid}))
    assert Run.open(tmp_path / "r").status == "killed"


def test_default_folders_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = {create(None).path for _ in range(3)}
    assert len(paths) == 3
    assert all(path.parent.name == "runs" and path.name.startswith("kitchen-cook-") for path in paths)


def test_second_run_in_a_folder_is_refused(tmp_path):
    create(tmp_path / "r")
    with pytest.raises(UsageError) as caught:
        create(tmp_path / "r")
    assert str(caught.value) == f"{tmp_path / 'r'} already holds a run"
    assert caught.value.hint == f"continue it with --resume {tmp_path / 'r'}, or choose another --out"


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "r").write_text("")
    with pytest.raises(UsageError) as caught:
        create(tmp_path / "r")
    assert str(caught.value) == f"{tmp_path / 'r'} is a file, not a folder"


@pytest.mark.parametrize("text", [None, "{", ""])
def test_open_what_is_no_run(tmp_path, text):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(UsageError) as caught:
        Run.open(tmp_path)
    assert str(caught.value) == f"{tmp_path} is not a run directory: it has no readable run.json"


def test_find_runs_newest_first(tmp_path):
    for name, started in (("a", "2026-01-01"), ("b", "2026-01-03"), ("c", "2026-01-02")):
        create(tmp_path / name)
        path = tmp_path / name / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "started": started}))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    assert [run.path.name for run in find_runs(tmp_path)] == ["b", "c", "a"]
