import pytest

from edgeai.core.units import amount, duration, percent, quantity, unit_of


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "", "0"),
        (7, "tok", "7 tok"),
        (7.25, "tok", "7.25 tok"),
        (999, "B", "999 B"),
        (999.9, "B", "1 kB"),
        (999_600, "B", "1 MB"),
        (98362432, "B", "98.4 MB"),
        (1500, "tok", "1.5 ktok"),
        (2_345, "J", "2.35 kJ"),
        (2.5e9, "", "2.5 G"),
        (5e12, "B", "5 TB"),
        (-2e6, "B", "-2 MB"),
    ],
)
def test_amount(value, unit, text):
    assert amount(value, unit) == text


@pytest.mark.parametrize(
    ("value_s", "text"),
    [
        (0, "0 s"),
        (0.0123, "12.3 ms"),
        (0.85, "850 ms"),
        (0.9997, "1 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.99, "1 min"),
        (245, "4 min 05 s"),
        (600, "10 min"),
        (3599.7, "1 h"),
        (7800, "2 h 10 min"),
        (86_400, "24 h"),
        (864_000, "10 days"),
        (1e9, "11,574 days"),
    ],
)
def test_duration(value_s, text):
    assert duration(value_s) == text


def test_percent():
    assert (percent(0.3167), percent(0.3167, 0)) == ("31.7%", "32%")


def test_a_value_is_written_in_its_unit():
    assert [quantity(0.5, unit) for unit in ("s", "%", "1", "J")] == ["500 ms", "50.0%", "0.500", "0.5 J"]


def test_names_end_with_their_unit():
    names = ["peak_memory_bytes", "train_s", "tokens_per_s", "clients_j", "up_bps", "coverage_frac", "num_steps"]
    assert [unit_of(name) for name in names] == ["B", "s", "", "J", "bit/s", "%", ""]
