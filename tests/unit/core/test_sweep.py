"""A sweep keeps what is done, tells what failed, and marks interrupted runs."""

import pytest

from edgeai.core.config import Config, dump_config
from edgeai.core.errors import EdgeAIError
from edgeai.core.metrics import Metrics
from edgeai.core.run import Run
from edgeai.core.sweep import Sweep, all_failed, child_run, kept_report

PLACE = {"argv": ["edgeai"], "device": "cpu", "device_why": "test", "threads": 1}


class SweepConfig(Config):
    """Of a test."""

    seed: int = 0


@pytest.fixture(autouse=True)
def _verb(monkeypatch):
    monkeypatch.setattr("edgeai.core.run.verb_of", lambda _: "test sweep")


class Heard:
    def __init__(self):
        self.notes, self.progress = [], []

    def on_note(self, text):
        self.notes.append(text)

    def on_progress(self, task, done, total, *, unit, fields):
        self.progress.append((task, done, total, unit))

    def on_log(self, step, values): ...


def test_every_run_is_told_once():
    heard = Heard()
    sweep = Sweep(3, Metrics(None, listener=heard))
    sweep.restore("a-0", {"score": 1})
    sweep.succeed("a-1", {"score": 2}, "score 2")
    sweep.fail("b-0", "no room")
    assert sweep.results == {"a-0": {"score": 1}, "a-1": {"score": 2}}
    assert sweep.failures == {"b-0": "no room"}
    assert heard.notes == ["a-1: score 2", "b-0: failed: no room"]
    assert heard.progress == [("compare", n, 3, "runs") for n in (1, 2, 3)]


def test_without_a_result_the_first_error_is_told():
    error = all_failed({"b-1": "no room", "b-0": "no time"}, hint="free some")
    assert (error.message, error.hint) == ("all runs failed; first error: no room", "free some")


def test_only_a_done_run_of_the_same_config_is_kept(tmp_path):
    cfg = SweepConfig()
    assert kept_report(tmp_path, cfg) is None
    with child_run(cfg, tmp_path, **PLACE) as run:
        assert (tmp_path / "config.yaml").read_text() == dump_config(cfg)
        run.finish("failed", {"score": 0})
    assert kept_report(tmp_path, cfg) is None
    with child_run(cfg, tmp_path, **PLACE) as run:
        run.finish("done", {"score": 1})
    assert kept_report(tmp_path, cfg) == {"score": 1}
    assert kept_report(tmp_path, SweepConfig(seed=1)) is None
    (tmp_path / "run.json").unlink()  # a folder that only holds a config and a report
    assert kept_report(tmp_path, cfg) == {"score": 1}


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "interrupted"), (EdgeAIError("no room"), "failed")], ids=repr
)
def test_an_error_marks_the_run(tmp_path, error, status):
    def stop():
        with child_run(SweepConfig(), tmp_path, **PLACE):
            raise error

    with pytest.raises(type(error)):
        stop()
    assert Run.open(tmp_path).status == status
    with child_run(SweepConfig(), tmp_path, **PLACE) as run:
        assert run.status == "running"
        run.finish("done", {})
    assert len(run.info["resumed"]) == 1
