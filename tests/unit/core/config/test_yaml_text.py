"""YAML 1.2 meanings where PyYAML has YAML 1.1's."""

import math

import pytest

from edgeai.core.config import yaml_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("+.5", 0.5),
        ("-3", -3),
        ("1_000", 1000),
        ("-.inf", -math.inf),
        ("007", "007"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("0x10", "0x10"),
        ("'1'", "1"),
        ("1.", 1.0),
    ],
)
def test_scalars(text, value):
    found, _, _ = yaml_text.parse(text)
    assert found == value
    assert type(found) is type(value)


def test_lines_and_duplicates():
    _, lines, duplicates = yaml_text.parse("a:\n  b: 1\n  c: [x,\n      {d: 2}]\na: 3\n")
    assert lines == {("a",): 5, ("a", "b"): 2, ("a", "c"): 3, ("a", "c", 0): 3, ("a", "c", 1): 4, ("a", "c", 1, "d"): 4}
    assert duplicates == [(("a",), 5)]
