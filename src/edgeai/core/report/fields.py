"""Described fields: label, unit and meaning stand beside a report's field, and tables come from them.

    @dataclass(frozen=True)
    class TrainReport:
        train_s: float = field(metadata=about("training time", meaning="validation included"))

The description belongs to the class, the values come from the JSON document that the report was written as: a report
that has just been computed and one that is read from a run directory are shown by the same code.
"""

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgeai.core.report.blocks import Block, Cell, Heading, Number, Table
from edgeai.core.stats import Spread
from edgeai.core.units import quantity, unit_of

Document = Mapping[str, Any]
"""A report, or a part of one, as plain data."""

MAX_ROWS = 50
_MAX_ITEMS = 8
_KEY = "about"


@dataclass(frozen=True)
class About:
    """The description of one field."""

    label: str
    unit: str = ""
    """As `units.quantity` takes it; "" takes the unit from the field's name."""
    meaning: str = ""
    best: Literal["max", "min"] | None = None
    """Whether the largest or the smallest value of a column is the best one."""
    hidden: bool = False
    """Whether tables show the value only where they ask for it."""
    keys: Mapping[str, "About"] = dataclasses.field(default_factory=dict)
    """Descriptions of a mapping's values by key."""


@dataclass(frozen=True)
class Leaf:
    """One value of a document with its description."""

    about: About
    cell: Cell


def about(
    label: str,
    *,
    unit: str = "",
    meaning: str = "",
    best: Literal["max", "min"] | None = None,
    hidden: bool = False,
    keys: Mapping[str, About] | None = None,
) -> dict[str, About]:
    """Return the metadata that describes a dataclass field.

    Args:
        label: Short name in tables; "" for a nested record whose own labels are enough.
        unit: Unit as `units.quantity` takes it; by default the unit that the field's name ends with.
        meaning: One phrase that defines the value.
        best: Whether the largest or the smallest value of a column is the best one.
        hidden: Whether tables show the value only where they ask for it.
        keys: Descriptions of the values of a mapping by key.
    """
    return {_KEY: About(label, unit, meaning, best, hidden, keys or {})}


def meaning_of(record: type, name: str) -> str:
    """Return the meaning in a field's description."""
    return described(record, name).meaning


def described(record: type | None, name: str) -> About:
    """Return the description of a field; a field without one, or one of an older report, goes by its name.

    Args:
        record: The dataclass. `COMPUTED` on it describes values that its document holds beside the fields.
        name: Key in the document.
    """
    known = descriptions(record) if record is not None else {}
    return known.get(name) or About(name.replace("_", " "), unit_of(name))


def descriptions(record: type) -> dict[str, About]:
    """Return the description of each described value of a record by its key; units are filled in from the names.

    Args:
        record: The dataclass, as for `described`.
    """
    found: dict[str, About] = dict(getattr(record, "COMPUTED", {}))
    if dataclasses.is_dataclass(record):
        found |= {item.name: item.metadata[_KEY] for item in dataclasses.fields(record) if _KEY in item.metadata}
    return {name: dataclasses.replace(known, unit=known.unit or unit_of(name)) for name, known in found.items()}


def leaves(record: type | None, document: Document) -> dict[str, Leaf]:
    """Return the described values of a document by dotted path, nested records included.

    Lists of records are left out: they are tables of their own. The leaf of a list of plain values is one text.

    Args:
        record: The report's dataclass, or None for a document without one: then the paths are the labels.
        document: The report as plain data.
    """
    return {path: leaf for path, leaf in _walk(record, document, "", None) if not path.endswith("_definition")}


def fields_table(found: Mapping[str, Leaf], paths: Sequence[str] | None = None, *, caption: str = "") -> Table:
    """Return one row per value that is not None: label, value, and meaning if any row has one.

    Args:
        found: From `leaves`.
        paths: The values to show, in this order; missing ones are left out. None shows all that are not hidden.
        caption: The caption of the table.
    """
    wanted = [path for path, leaf in found.items() if not leaf.about.hidden] if paths is None else paths
    shown = [found[path] for path in wanted if path in found and found[path].cell is not None]
    rows: list[Sequence[Cell]] = [(leaf.about.label, alone(leaf.cell), leaf.about.meaning) for leaf in shown]
    if any(leaf.about.meaning for leaf in shown):
        return Table(("", "value", "meaning"), rows, caption)
    return Table(("", "value"), [row[:2] for row in rows], caption)


def records_table(
    record: type | None,
    documents: Sequence[Document],
    paths: Sequence[str] | None = None,
    *,
    caption: str = "",
    explained: bool = True,
    max_rows: int = MAX_ROWS,
) -> Table:
    """Return one row per record; columns without any value are left out.

    Args:
        record: The records' dataclass, or None.
        documents: The records as plain data.
        paths: The columns, in this order. None shows all that are not hidden.
        caption: The caption of the table.
        explained: Whether the caption gives the meanings of the columns, and best values are set bold.
        max_rows: Rows shown; the caption counts the others.
    """
    rows = [leaves(record, document) for document in documents[:max_rows]]
    columns = _columns(rows, paths)
    cells = [[row[path].cell if path in row else None for path in columns] for row in rows]
    notes = [caption] if caption else []
    if explained:
        notes += [_sentence(f"{one.label}: {one.meaning}.") for one in columns.values() if one.meaning]
    if len(documents) > max_rows:
        notes.append(f"{len(documents) - max_rows} more in report.json.")
    best = {one.label: one.best for one in columns.values() if one.best and explained}
    return Table([one.label for one in columns.values()], cells, " ".join(notes), best)


def _columns(rows: Sequence[Mapping[str, Leaf]], paths: Sequence[str] | None) -> dict[str, About]:
    """The descriptions of the columns to show, by path."""
    known = {path: leaf.about for row in reversed(rows) for path, leaf in row.items() if leaf.cell is not None}
    order = paths or [path for path in dict.fromkeys(path for row in rows for path in row) if path in known]
    return {path: known[path] for path in order if path in known and (paths or not known[path].hidden)}


def report_blocks(record: type | None, document: Document) -> list[Block]:
    """Return a table of the report's values, then a table for each list of records in it."""
    blocks: list[Block] = [fields_table(leaves(record, document))]
    for path, item, rows in _record_lists(record, document, ""):
        label = described(record, path).label if record and "." not in path else path
        blocks += [Heading(_sentence(label), level=3), records_table(item, rows)]
    return blocks


def cell_of(value: Any, unit: str = "") -> Cell:
    """Return a plain value as a cell: numbers in their unit, a spread as its centre and range, lists joined."""
    if value is None or isinstance(value, bool | str):
        return None if value == "" else value
    if isinstance(value, int | float):
        return Number(value, quantity(value, unit)) if unit and math.isfinite(value) else value
    if isinstance(value, Mapping) and _is_spread(value):
        return _spread_cell(value, unit)
    items = (
        [f"{key} {_text(item, unit)}" for key, item in value.items()]
        if isinstance(value, Mapping)
        else [_text(item, unit) for item in value]
    )
    return ", ".join(items) or "none"


def spread_of(value: Document) -> Spread:
    """Return the spread in a report, which holds its mean or its median; both are then that value."""
    center = value["mean"] if "mean" in value else value["median"]
    low, high = value.get("minimum", value.get("least")), value.get("maximum", value.get("largest"))
    return Spread(center, center, low, high)


def _walk(record: type | None, document: Document, path: str, outer: About | None) -> Iterator[tuple[str, Leaf]]:
    types = _types(record)
    for name, value in document.items():
        here = f"{path}{name}"
        own = described(record, name) if record else outer.keys.get(name) if outer else None
        shown = _inside(outer, name, own) if own or outer else About(here, unit_of(name))
        if isinstance(value, Mapping) and not _is_spread(value):
            yield from _walk(types.get(name), value, f"{here}.", shown if record or outer else None)
        elif not (isinstance(value, list | tuple) and (_are_records(value) or types.get(name))):
            long = isinstance(value, list | tuple) and (
                len(value) > _MAX_ITEMS or any(isinstance(item, list | tuple | dict) for item in value)
            )
            cell = f"{len(value)} entries, see report.json" if long else cell_of(value, shown.unit)
            yield here, Leaf(shown, cell)


def _inside(outer: About | None, name: str, own: About | None) -> About:
    """The description of a value within a described record or mapping."""
    if outer is None:
        assert own is not None
        return own
    own = own or About(name, outer.unit, best=outer.best)
    label = ", ".join(part for part in (outer.label, own.label) if part)
    return dataclasses.replace(own, label=label, hidden=outer.hidden or own.hidden)


def _types(record: type | None) -> dict[str, type | None]:
    """The dataclass within each field's type: of the value itself, an optional value, or the items of a container."""
    if record is None or not dataclasses.is_dataclass(record):
        return {}
    return {name: _dataclass_in(hint) for name, hint in typing.get_type_hints(record).items()}


def _dataclass_in(hint: Any) -> type | None:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and hint is not Spread:
        return hint
    return next((found for item in typing.get_args(hint) if (found := _dataclass_in(item))), None)


def _record_lists(
    record: type | None, document: Document, path: str
) -> Iterator[tuple[str, type | None, Sequence[Document]]]:
    types = _types(record)
    for name, value in document.items():
        if _are_records(value):
            yield f"{path}{name}", types.get(name), value
        elif isinstance(value, Mapping):
            yield from _record_lists(types.get(name), value, f"{path}{name}.")


def _are_records(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _is_spread(value: Document) -> bool:
    return {"mean", "median"} & set(value) != set() and {"minimum", "least"} & set(value) != set()


def _spread_cell(value: Document, unit: str) -> Number:
    spread = spread_of(value)
    text, low, high = (_text(part, unit) for part in (spread.mean, spread.minimum, spread.maximum))
    return Number(spread.mean, text if low == high else f"{text} ({low} to {high})")


def _sentence(text: str) -> str:
    """Begins a word with a capital: "Uplink: ...", but "mIoU: ..." and "q: ..." stay."""
    word = text.split()[0].rstrip(":")
    is_word = word.replace("-", "").isalpha() and text[:2].islower()
    return text[0].upper() + text[1:] if is_word else text


def alone(cell: Cell) -> Cell:
    """Give a number digits of its own: the values above and below it measure something else."""
    return Number(cell, f"{cell:.4g}") if isinstance(cell, float) else cell


def _text(value: Any, unit: str) -> str:
    cell = cell_of(value, unit)
    return cell.text if isinstance(cell, Number) else f"{cell:.4g}" if isinstance(cell, float) else str(cell)
