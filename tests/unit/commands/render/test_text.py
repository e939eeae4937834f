import pytest

from edgeai.commands.render.text import amount, print_fields, print_table, seconds


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "", "0"),
        (7, "tok", "7 tok"),
        (7.25, "tok", "7.2 tok"),
        (999.9, "B", "1000 B"),
        (98362432, "B", "98.4 MB"),
        (1500, "tok", "1.5 ktok"),
        (2.5e9, "", "2.5 G"),
    ],
)
def test_amount(value, unit, text):
    assert amount(value, unit) == text


@pytest.mark.parametrize(
    ("value_s", "text"),
    [
        (0.85, "850 ms"),
        (12.34, "12.3 s"),
        (245, "4 min 05 s"),
        (7800, "2 h 10 min"),
        (59.99, "60.0 s"),
        (3599.7, "1 h 00 min"),
    ],
)
def test_seconds(value_s, text):
    assert seconds(value_s) == text


def test_table_sets_numbers_right_and_keeps_brackets(capsys):
    print_table(["name", "n"], [["[a]", 5], ["b", 1234.5678], ["c", None]])
    assert capsys.readouterr().out.splitlines() == ["name     n", "[a]      5", "b     1235", "c        -"]


def test_fields(capsys):
    print_fields({"a": 1, "long": None})
    assert capsys.readouterr().out == "a     1\nlong  -\n"
