"""Means of windows and drift segments by hand."""

from dataclasses import dataclass

import pytest

from edgeai.collab.reports.timeline import Timeline, over_seeds, window_line
from edgeai.core.report.plot import Line, Span


@dataclass
class Record:
    time_s: float
    segment: str
    loss: float | None = None


def read(*records):
    return Timeline(2.0, {"loss": lambda record: record.loss}).read(records)


def test_means_of_windows_leave_out_what_is_not_known():
    timeline = read(Record(0.0, "a", 0.2), Record(1.5, "a", 0.4), Record(3.0, "a"), Record(4.5, "a", 1.0))
    line = timeline.line("loss", "title")
    assert timeline.end_s == 6.0  # a frame every 1.5 s
    assert (line.name, list(line.x)) == ("title", [1.0, 5.0])  # middles of the first and the third window
    assert line.y == pytest.approx([0.3, 1.0])
    assert timeline.line("score", "none") is None


def test_segments_reach_to_the_next_one():
    late_first = read(Record(3.0, "fog"), Record(0.0, "day"), Record(1.0, "day"), Record(9.0, "fog"))
    assert late_first.spans() == [Span("day", 0.0, 3.0), Span("fog", 3.0, 12.0)]
    assert read(Record(0.0, "day"), Record(1.0, "day")).spans() == []


def test_a_segment_that_comes_back_is_not_drawn_over_the_one_between():
    assert read(Record(0.0, "day"), Record(1.0, "fog"), Record(2.0, "day")).spans() == []


def test_figures_of_a_report_lie_in_the_middle_of_their_windows():
    windows = [{"begin_s": 0.0, "up_bytes": 8}, {"begin_s": 4.0, "up_bytes": 6}, {"begin_s": 8.0, "up_bytes": 1}]
    line = window_line("up", windows, 4.0, 6.0, lambda window, length_s: window["up_bytes"] / length_s)
    assert (line.x, line.y) == ([2.0, 5.0], [2.0, 3.0])  # the second is cut off by the end, the third lies after it


def test_seeds_make_a_band():
    line = over_seeds("both", [Line("a", [1.0, 2.0], [0.2, 0.4]), Line("b", [1.0, 3.0], [0.4, 0.9])])
    assert list(line.x) == [1.0, 2.0, 3.0]
    assert line.y == pytest.approx([0.3, 0.4, 0.9])
    assert (line.low, line.high) == ([0.2, 0.4, 0.9], [0.4, 0.4, 0.9])
