"""Progress for people: plain lines where there is no terminal, a bar where there is one."""

import io
import sys

import pytest
from rich.console import Console

from edgeai.commands.shared import progress
from edgeai.commands.shared.progress import BarListener, PlainListener, listening
from edgeai.core.report.fields import About


@pytest.fixture
def clock(monkeypatch):
    """A clock set by hand, in seconds."""
    times_s = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: times_s[0])
    return times_s


def test_plain_lines_come_at_most_every_ten_seconds(clock, capsys):
    """8 of 100 per second from 0: at 12 s 96 are done, 4 are left, which takes 0.5 s."""
    listener = PlainListener()
    for second in range(13):
        clock[0] = second
        listener.on_progress("train", 8 * second, 100, unit="tok", fields={"loss": 1.23456} if second > 9 else {})
    clock[0] = 12.5
    listener.on_progress("train", 100, 100, unit="tok", fields={})
    assert capsys.readouterr().err.splitlines() == [
        "train: 0 tok/100 tok",
        "train: 80 tok/100 tok, 8 tok/s, 2.5 s left, loss 1.235",
        "train: 100 tok/100 tok, 8 tok/s",
    ]


def test_finished_task_is_told_once_and_may_start_over(clock, capsys):
    listener = PlainListener()
    for second, done in enumerate([0, 5, 10, 10, 10, 0, 10]):
        clock[0] = second
        listener.on_progress("epoch", done, 10, unit="", fields={})
    assert capsys.readouterr().err.splitlines() == ["epoch: 0/10", "epoch: 10/10, 5/s", "epoch: 10/10, 10/s"]


def test_plain_line_without_a_total(clock, capsys):
    listener = PlainListener()
    listener.on_progress("read", 0, None, unit="B", fields={})
    clock[0] = 10
    listener.on_progress("read", 2_000_000, None, unit="B", fields={})
    assert capsys.readouterr().err.splitlines()[1] == "read: 2 MB, 200 kB/s"


def test_logged_steps_only_with_verbose(capsys):
    PlainListener().on_log(3, {"loss": 0.5})
    PlainListener(verbose=True).on_log(4, {"loss": 0.25, "lr": 1e-3})
    assert capsys.readouterr().err == "step 4: loss 0.25, lr 0.001\n"


def test_metrics_are_printed_by_label_and_in_their_unit(clock, capsys):
    known = {"loss": About("training loss"), "acc_*": About("accuracy at step *"), "bytes_up": About("up", "B")}
    listener = PlainListener(known, verbose=True)
    listener.on_progress("train", 1, 1, unit="step", fields={"loss": 0.5, "new": 2.0})
    listener.on_log(4, {"val_loss": 0.25, "acc_3": 0.5, "bytes_up": 2e6})
    assert capsys.readouterr().err.splitlines() == [
        "train: 1 step/1 step, training loss 0.5, new 2",
        "step 4: validation training loss 0.25, accuracy at step 3 0.5, up 2 MB",
    ]


def test_quiet_hears_nothing():
    with listening(quiet=True) as listener:
        assert listener is None


@pytest.mark.parametrize(("terminal", "kind"), [(True, BarListener), (False, PlainListener)])
def test_listener_fits_the_terminal(monkeypatch, terminal, kind):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    with listening() as listener:
        assert isinstance(listener, kind)


def test_bar_shows_counts_and_notes_above():
    stream = io.StringIO()
    with BarListener(Console(file=stream, force_terminal=True, width=100)) as bar:
        bar.on_progress("train", 0, 2000, unit="tok", fields={})
        bar.on_note("[cached] features: 3.1 GB")
        bar.on_progress("train", 1500, 2000, unit="tok", fields={"loss": 1.5})
        bar.on_progress("train", 2000, 2000, unit="tok", fields={"loss": 1.25})
    shown = stream.getvalue()
    assert "[cached] features: 3.1 GB" in shown
    assert "2 ktok/2 ktok" in shown
    assert "loss 1.25" in shown


def test_bar_fits_eighty_columns():
    stream = io.StringIO()
    with BarListener(Console(file=stream, force_terminal=True, width=80)) as bar:
        bar.on_progress("fetch smollm2-135m-instruct", 92.8e6, 92.9e6, unit="B", fields={})
    assert "fetch smollm2-135m-instruct" in stream.getvalue()
    assert "92.8 MB/92.9 MB" in stream.getvalue()
    assert "…" not in stream.getvalue()


def test_task_that_starts_over_gets_a_new_bar():
    with BarListener(Console(file=io.StringIO(), force_terminal=True, width=100)) as bar:
        for done in (0, 5, 10, 0, 10):
            bar.on_progress("epoch", done, 10, unit="", fields={})
        assert [task.completed for task in bar._progress.tasks] == [10, 10]
