"""Recorded network conditions: a CSV file `t_s,up_kbps,down_kbps,rtt_ms,loss` with one line per equal step of time.

A value holds until the next line; after the last line the trace starts over. kbps are 1000 bit/s, loss is a fraction.
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from edgeai.core.errors import UsageError

COLUMNS = ("t_s", "up_kbps", "down_kbps", "rtt_ms", "loss")
_STEP_TOLERANCE_FRAC = 0.1
"""Times are often rounded to 0.1 s or so; a missing line changes the step by its whole length."""
_LIMITS = {"up_kbps": math.inf, "down_kbps": math.inf, "rtt_ms": math.inf, "loss": 0.9}


@dataclass(frozen=True)
class LinkTrace:
    """A link trace with constant steps.

    Args:
        step_s: Duration of a step.
        up_bps: Rate from edge to cloud; 0 is an outage.
        down_bps: Rate from cloud to edge; 0 is an outage.
        delay_s: One-way delay: half the recorded round trip.
        loss_frac: Share of packets lost.
    """

    step_s: float
    up_bps: tuple[float, ...]
    down_bps: tuple[float, ...]
    delay_s: tuple[float, ...]
    loss_frac: tuple[float, ...]


def read_trace(path: Path) -> LinkTrace:
    """Read a trace, which must define the link at every time.

    Raises:
        UsageError: No such file, other columns, an empty or wrong value, a line missing from the equal steps, or a
            direction that never carries anything. The message names the file and the line.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            lines = csv.reader(stream)
            header = tuple(name.strip() for name in next(lines, ()))
            rows = [(lines.line_num, cells) for cells in lines if cells]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"cannot read the link trace {path}: {reason}") from None
    if header != COLUMNS:
        raise UsageError(f"{path}:1: expected the columns {','.join(COLUMNS)}, found {','.join(header) or 'nothing'}")
    if not rows:
        raise UsageError(f"{path}: the trace has no lines below its header")
    values = [_values(path, line, cells) for line, cells in rows]
    step_s = _step_s(path, [line for line, _ in rows], [row[0] for row in values])
    _, up_kbps, down_kbps, rtt_ms, loss = zip(*values, strict=True)
    for name, rates in (("up_kbps", up_kbps), ("down_kbps", down_kbps)):
        if not any(rates):
            raise UsageError(f"{path}: {name} is 0 on every line: nothing would ever arrive")
    return LinkTrace(
        step_s=step_s,
        up_bps=tuple(rate * 1e3 for rate in up_kbps),
        down_bps=tuple(rate * 1e3 for rate in down_kbps),
        delay_s=tuple(rtt / 2e3 for rtt in rtt_ms),
        loss_frac=tuple(loss),
    )


def _values(path: Path, line: int, cells: list[str]) -> list[float]:
    """Read one line; `line` counts from 1 in the file, as editors do."""
    if len(cells) != len(COLUMNS):
        raise UsageError(f"{path}:{line}: expected {len(COLUMNS)} values, found {len(cells)}")
    row = []
    for name, text in zip(COLUMNS, cells, strict=True):
        if not text.strip():
            raise UsageError(f"{path}:{line}: a hole: {name} is empty", hint="an outage is written as a rate of 0")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UsageError(f"{path}:{line}: {name} is {text.strip()}, which is not a number")
        if value < 0:
            raise UsageError(f"{path}:{line}: {name} is negative: {text.strip()}")
        if value > _LIMITS.get(name, math.inf):
            raise UsageError(f"{path}:{line}: {name} is {text.strip()}, more than {_LIMITS[name]:g}")
        row.append(value)
    return row


def _step_s(path: Path, lines: list[int], times_s: list[float]) -> float:
    """Return the step between lines, after checking that they all keep it."""
    if times_s[0] != 0:
        raise UsageError(f"{path}:{lines[0]}: the first t_s is {times_s[0]:g}, expected 0")
    if len(times_s) == 1:
        return 1.0  # one line holds for ever, whatever the step
    step_s = times_s[1]
    for line, before_s, time_s in zip(lines[1:], times_s, times_s[1:], strict=False):
        if time_s <= before_s:
            raise UsageError(f"{path}:{line}: t_s {time_s:g} comes after {before_s:g}: times must rise")
        if abs(time_s - before_s - step_s) > _STEP_TOLERANCE_FRAC * step_s:
            raise UsageError(
                f"{path}:{line}: a hole: t_s goes from {before_s:g} to {time_s:g}, but the step is {step_s:g} s",
                hint="give every step a line; a rate that holds is repeated, an outage is a rate of 0",
            )
    return times_s[-1] / (len(times_s) - 1)
