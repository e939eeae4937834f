"""A run over time, for plots: means of windows of its frame records, and its drift segments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from edgeai.collab.reports.frame_records import FrameRecord
from edgeai.core.report.plot import Line, Span

Series = Callable[[FrameRecord], float | None]


@dataclass
class Timeline:
    """Means over windows, of several series at once, from one pass over the records.

    Args:
        window_s: Length of a window.
        series: By name; None counts nowhere.
    """

    window_s: float
    series: Mapping[str, Series]
    _sums: dict[tuple[str, int], tuple[float, int]] = field(default_factory=dict)
    _segments: dict[str, list[float]] = field(default_factory=dict)
    _num_records: int = 0

    def read(self, records: Iterable[FrameRecord]) -> Timeline:
        """Take in records, in any order."""
        for record in records:
            self._num_records += 1
            window = int(record.time_s // self.window_s)
            for name, of in self.series.items():
                value = of(record)
                if value is not None:
                    total, num = self._sums.get((name, window), (0.0, 0))
                    self._sums[name, window] = (total + value, num + 1)
            ends = self._segments.setdefault(record.segment, [record.time_s, record.time_s])
            ends[:] = min(ends[0], record.time_s), max(ends[1], record.time_s)
        return self

    @property
    def end_s(self) -> float:
        """Time at which a frame after the last one would come."""
        last_s = max((ends[1] for ends in self._segments.values()), default=0.0)
        return last_s + last_s / max(1, self._num_records - 1)

    def line(self, name: str, title: str) -> Line | None:
        """A series at the middle of each window; None if it has no value."""
        windows = sorted(window for known, window in self._sums if known == name)
        if not windows:
            return None
        means = [total / num for total, num in (self._sums[name, window] for window in windows)]
        return Line(title, [_middle_s(window * self.window_s, self.window_s, self.end_s) for window in windows], means)

    def spans(self) -> list[Span]:
        """Segments in order of time, each until the next begins; none if there is only one.

        A segment that comes back later under the same name is not told apart: then there are none either.
        """
        found = sorted((ends[0], ends[1], name) for name, ends in self._segments.items())
        if len(found) < 2 or any(now[1] > after[0] for now, after in pairwise(found)):
            return []
        begins = [begin for begin, _, _ in found]
        ends = [*begins[1:], self.end_s]
        return [Span(name, begin, end) for (begin, _, name), end in zip(found, ends, strict=True)]


def window_line(
    title: str,
    windows: Sequence[Mapping[str, Any]],
    window_s: float,
    end_s: float,
    of: Callable[[Mapping[str, Any], float], float | None],
) -> Line:
    """Return a value of the windows in a report, at the middle of each.

    Args:
        title: Name of the line.
        windows: evaluation.windows of a run's report; those after the end are left out.
        window_s: Length of a window.
        end_s: End of the stream: the last window is only as long as there are frames.
        of: Returns the value, given a window and its length in seconds; None leaves the window out.
    """
    points = []
    for window in windows:
        begin_s = window["begin_s"]
        if begin_s < end_s and (value := of(window, min(window_s, end_s - begin_s))) is not None:
            points.append((_middle_s(begin_s, window_s, end_s), value))
    return Line(title, [x for x, _ in points], [y for _, y in points])


def _middle_s(begin_s: float, window_s: float, end_s: float) -> float:
    return (begin_s + max(begin_s, min(begin_s + window_s, end_s))) / 2


def over_seeds(title: str, lines: Sequence[Line]) -> Line:
    """Mean of several lines with the band from the lowest to the highest, where at least one has a point."""
    points: dict[float, list[float]] = {}
    for line in lines:
        for x, y in zip(line.x, line.y, strict=True):
            if not math.isnan(y):
                points.setdefault(x, []).append(y)
    xs = sorted(points)
    return Line(
        title,
        xs,
        [sum(points[x]) / len(points[x]) for x in xs],
        [min(points[x]) for x in xs],
        [max(points[x]) for x in xs],
    )
