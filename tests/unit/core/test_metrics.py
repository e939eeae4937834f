"""The sink: what it writes, what it tells, and what a resumed run forgets."""

import json
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from edgeai.core.metrics import Metrics, read_metrics


class Ear:
    def __init__(self):
        self.heard = []

    def on_progress(self, task, done, total, *, unit, fields):
        self.heard.append(("progress", task, done, total, unit, dict(fields)))

    def on_note(self, text):
        self.heard.append(("note", text))

    def on_log(self, step, values):
        self.heard.append(("log", step, dict(values)))


def steps(folder):
    return [(row["step"], row["loss"]) for row in read_metrics(folder)]


def scalars(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("loss")]


def test_log_goes_to_jsonl_tensorboard_and_listener(tmp_path):
    ear = Ear()
    metrics = Metrics(tmp_path, listener=ear)
    metrics.log(1, {"loss": 0.5})
    metrics.log(2, {"loss": float("nan")})
    metrics.close()
    assert steps(tmp_path) == [(1, 0.5), (2, None)]
    assert scalars(tmp_path)[0] == (1, 0.5)
    assert ear.heard[0] == ("log", 1, {"loss": 0.5})


def test_every_line_is_on_disk_at_once(tmp_path):
    metrics = Metrics(tmp_path)
    metrics.log(1, {"loss": 0.5})
    assert steps(tmp_path) == [(1, 0.5)]
    metrics.close()


def test_progress_and_note(tmp_path):
    ear = Ear()
    metrics = Metrics(tmp_path, listener=ear)
    metrics.progress("train", 3, 10, unit="tok", loss=1.5)
    metrics.note("cached")
    assert ear.heard == [("progress", "train", 3, 10, "tok", {"loss": 1.5}), ("note", "cached")]
    assert (tmp_path / "log.txt").read_text().endswith(" cached\n")
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]


def test_rewind_then_go_on_logs_each_step_once(tmp_path):
    metrics = Metrics(tmp_path)
    for step in (1, 2, 3):
        metrics.log(step, {"loss": step})
    metrics.close()
    # TensorBoard reads event files by the second in their names; a resumed run starts in a later one
    time.sleep(1.1)
    resumed = Metrics(tmp_path)
    resumed.rewind(1)
    resumed.log(2, {"loss": 20})
    resumed.close()
    assert steps(tmp_path) == [(1, 1.0), (2, 20.0)]
    assert scalars(tmp_path) == [(1, 1.0), (2, 20.0)]


def test_rewind_drops_a_line_torn_by_a_kill(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "lo')
    metrics = Metrics(tmp_path)
    metrics.rewind(5)
    metrics.log(2, {"loss": 2})
    metrics.close()
    assert steps(tmp_path) == [(1, 1.0), (2, 2.0)]
    assert all(json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())


def test_rewind_before_anything_was_logged(tmp_path):
    Metrics(tmp_path).rewind(0)
    assert list(tmp_path.iterdir()) == []


def test_without_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    metrics = Metrics(None)
    metrics.log(1, {"loss": 1})
    metrics.note("x")
    metrics.rewind(0)
    metrics.close()
    assert list(tmp_path.iterdir()) == []


def test_value_that_is_no_number_is_a_bug(tmp_path):
    with pytest.raises(ValueError, match="could not convert"):
        Metrics(tmp_path).log(1, {"loss": "high"})
