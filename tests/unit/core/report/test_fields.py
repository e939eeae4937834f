"""Tables of a described record, by hand."""

from dataclasses import dataclass, field

from edgeai.core.report.blocks import Heading, Number
from edgeai.core.report.fields import About, about, fields_table, leaves, records_table, report_blocks


@dataclass(frozen=True)
class Guest:
    name: str = field(metadata=about("guest"))
    ate_frac: float | None = field(metadata=about("eaten", best="max", meaning="share of the plate"))
    seat: int = field(metadata=about("seat", hidden=True))


@dataclass(frozen=True)
class Meal:
    cook_s: float = field(metadata=about("cooking"))
    tasted: dict[str, float] = field(metadata=about("taste", keys={"miou": About("mIoU")}))
    spare: dict[str, float] = field(metadata=about("spare"))
    salt: float | None = field(metadata=about("salt"))
    secret: int = field(metadata=about("secret", hidden=True))
    guests: tuple[Guest, ...] = field(metadata=about("guests"))


GUESTS = [{"name": "Ann", "ate_frac": None, "seat": 1}, {"name": "Bo", "ate_frac": 0.5, "seat": 2}]
MEAL = {
    "cook_s": 90.0,
    "tasted": {"miou": 0.25, "odd": 2},
    "spare": {},
    "salt": None,
    "secret": 7,
    "guests": GUESTS,
}


def test_hidden_missing_and_empty_values_are_left_out():
    rows = [("cooking", Number(90.0, "1 min 30 s")), ("taste, mIoU", Number(0.25, "0.25")), ("taste, odd", 2)]
    assert fields_table(leaves(Meal, MEAL)).rows == rows
    assert fields_table(leaves(Meal, MEAL), ["secret", "salt", "unknown"]).rows == [("secret", 7)]


def test_records_are_a_table_of_their_own():
    _, heading, table = report_blocks(Meal, MEAL)
    assert heading == Heading("Guests", level=3)
    assert (table.columns, table.rows) == (["guest", "eaten"], [["Ann", None], ["Bo", Number(0.5, "50.0%")]])
    assert (table.caption, table.best) == ("Eaten: share of the plate.", {"eaten": "max"})
    assert [type(block) for block in report_blocks(Meal, {**MEAL, "guests": []})] == [type(table)]


def test_a_column_without_any_value_is_left_out():
    table = records_table(Guest, GUESTS[:1], ("seat", "ate_frac", "name"))
    assert (table.columns, table.rows) == (["seat", "guest"], [[1, "Ann"]])


def test_older_reports_show_values_without_a_description_by_name():
    assert fields_table(leaves(Meal, {"num_cooks": 2})).rows == [("num cooks", 2)]
