"""Traces: what is read, and every hole refused with its line."""

import pytest

from edgeai.core.errors import UsageError
from edgeai.core.link_trace import LinkTrace, read_trace

HEADER = "t_s,up_kbps,down_kbps,rtt_ms,loss\n"


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "trace.csv"
        path.write_text(text)
        return path

    return write


def refusal(path):
    with pytest.raises(UsageError) as caught:
        read_trace(path)
    return caught.value.message.replace(str(path), "FILE")


def test_units_become_si(write):
    path = write(HEADER + "0,1000,2000,40,0\n0.5,0,3000,60,0.1\n")
    assert read_trace(path) == LinkTrace(0.5, (1e6, 0.0), (2e6, 3e6), (0.02, 0.03), (0.0, 0.1))


def test_rounded_times_are_no_holes(write):
    path = write(HEADER + "".join(f"{time_s},1,1,0,0\n" for time_s in (0, 0.33, 0.67, 1.0)))
    assert read_trace(path).step_s == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,1,1,1,0\n1,1,1,1,0\n3,1,1,1,0\n", "FILE:4: a hole: t_s goes from 1 to 3, but the step is 1 s"),
        ("0,1,1,1,0\n1,,1,1,0\n", "FILE:3: a hole: up_kbps is empty"),
        ("0,1,1,1,0\n2,1,1,1,0\n1,1,1,1,0\n", "FILE:4: t_s 1 comes after 2: times must rise"),
        ("0,1,1,1,0\n1,1,-2,1,0\n", "FILE:3: down_kbps is negative: -2"),
        ("0,1,1,1,0\n1,1,nan,1,0\n", "FILE:3: down_kbps is nan, which is not a number"),
        ("0,1,1,1,0\n1,1,fast,1,0\n", "FILE:3: down_kbps is fast, which is not a number"),
        ("0,1,1,1,1\n", "FILE:2: loss is 1, more than 0.9"),
        ("0,1,1,1,0\n1,1,1\n", "FILE:3: expected 5 values, found 3"),
        ("5,1,1,1,0\n", "FILE:2: the first t_s is 5, expected 0"),
        ("0,0,1,1,0\n1,0,1,1,0\n", "FILE: up_kbps is 0 on every line: nothing would ever arrive"),
        ("", "FILE: the trace has no lines below its header"),
    ],
)
def test_holes_and_wrong_values_name_their_line(write, text, expected):
    assert refusal(write(HEADER + text)) == expected


def test_other_columns_and_no_file(write, tmp_path):
    columns = "t_s,up_kbps,down_kbps,rtt_ms,loss"
    assert refusal(write("time,rate\n0,1\n")) == f"FILE:1: expected the columns {columns}, found time,rate"
    assert refusal(write("")) == f"FILE:1: expected the columns {columns}, found nothing"
    assert refusal(tmp_path / "none.csv") == "cannot read the link trace FILE: No such file or directory"
