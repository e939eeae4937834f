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
_DEFINITION = "_definition"
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


@dataclass(frozen=True)
class Leaf:
    """One value of a document with its description."""

    label: str
    cell: Cell
    meaning: str = ""
    best: Literal["max", "min"] | None = None


def about(
    label: str, *, unit: str = "", meaning: str = "", best: Literal["max", "min"] | None = None
) -> dict[str, About]:
    """Return the metadata that describes a dataclass field.

    Args:
        label: Short name in tables; "" for a nested record whose own labels are enough.
        unit: Unit as `units.quantity` takes it; by default the unit that the field's name ends with.
        meaning: One phrase that defines the value.
        best: Whether the largest or the smallest value of a column is the best one.
    """
    return {_KEY: About(label, unit, meaning, best)}


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
    found = dict(_walk(record, document, "", None))
    meanings = {name.removesuffix(_DEFINITION): leaf for name, leaf in found.items() if name.endswith(_DEFINITION)}
    plain = {name: leaf for name, leaf in found.items() if not name.endswith(_DEFINITION)}
    return plain if record else _with_definitions(plain, {name: str(leaf.cell) for name, leaf in meanings.items()})


def fields_table(found: Mapping[str, Leaf], paths: Sequence[str] | None = None, *, caption: str = "") -> Table:
    """Return one row per value: label, value, and meaning if any row has one.

    Args:
        found: From `leaves`.
        paths: The values to show, in this order; those that are missing or None are left out. None shows all.
        caption: The caption of the table.
    """
    shown = [
        leaf
        for leaf in (found.get(path) for path in paths or found)
        if leaf and (leaf.cell is not None or (paths is None and leaf.label))
    ]
    rows: list[Sequence[Cell]] = [(leaf.label, _alone(leaf.cell), leaf.meaning) for leaf in shown]
    if any(leaf.meaning for leaf in shown):
        return Table(("", "value", "meaning"), rows, caption)
    return Table(("", "value"), [row[:2] for row in rows], caption)


def records_table(
    record: type | None,
    documents: Sequence[Document],
    paths: Sequence[str] | None = None,
    *,
    names: Sequence[str] = (),
    caption: str = "",
    explained: bool = True,
    max_rows: int = MAX_ROWS,
) -> Table:
    """Return one row per record.

    Args:
        record: The records' dataclass, or None.
        documents: The records as plain data.
        paths: The columns, in this order; columns without any value are left out. None shows all.
        names: A first column that names the records.
        caption: The caption of the table.
        explained: Whether the caption gives the meanings of the columns, and best values are set bold.
        max_rows: Rows shown; the caption counts the others.
    """
    rows = [leaves(record, document) for document in documents[:max_rows]]
    found: dict[str, Leaf] = {}
    for row in rows:
        for path, leaf in row.items():
            if path not in found or (found[path].cell is None and leaf.cell is not None):
                found[path] = leaf
    columns = {
        path: found[path] for path in paths or found if path in found and not (paths and found[path].cell is None)
    }
    cells = [[row[path].cell if path in row else None for path in columns] for row in rows]
    notes = [caption] if caption else []
    if explained:
        meanings = [f"{leaf.label}: {leaf.meaning}." for leaf in columns.values() if leaf.meaning]
        notes += [_sentence(text) for text in meanings]
    if len(documents) > max_rows:
        notes.append(f"{len(documents) - max_rows} more in report.json.")
    best = {leaf.label: leaf.best for leaf in columns.values() if leaf.best and explained}
    labels = [leaf.label for leaf in columns.values()]
    if names:
        labels, cells = ["", *labels], [[name, *row] for name, row in zip(names, cells, strict=False)]
    return Table(labels, cells, " ".join(notes), best)


def report_blocks(record: type | None, document: Document) -> list[Block]:
    """Return a table of the report's values, then a table for each list of records in it."""
    blocks: list[Block] = [fields_table(leaves(record, document))]
    for path, item, rows in _record_lists(record, document, ""):
        label = described(record, path).label if record and "." not in path else path
        blocks += [Heading(label, level=3), records_table(item, rows)]
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


def _walk(record: type | None, document: Document, path: str, outer: About | None) -> Iterator[tuple[str, Leaf]]:
    types = _types(record)
    for name, value in document.items():
        here = f"{path}{name}"
        own = described(record, name) if record else None
        shown = _inside(outer, name, own) if own or outer else About(here, unit_of(name))
        if isinstance(value, Mapping) and value and not _is_spread(value):
            yield from _walk(types.get(name), value, f"{here}.", shown if record or outer else None)
        elif not _are_records(value):
            long = isinstance(value, list | tuple) and (
                len(value) > _MAX_ITEMS or any(isinstance(item, list | tuple | dict) for item in value)
            )
            cell = f"{len(value)} entries, see report.json" if long else cell_of(value, shown.unit)
            yield here, Leaf(shown.label, cell, shown.meaning, shown.best)


def _inside(outer: About | None, name: str, own: About | None) -> About:
    """The description of a value within a described record or mapping."""
    if outer is None:
        assert own is not None
        return own
    if own is None:
        return About(f"{outer.label}, {name}" if outer.label else name, outer.unit, "", outer.best)
    label = f"{outer.label}, {own.label}" if outer.label and own.label else outer.label or own.label
    return About(label, own.unit, own.meaning, own.best)


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
    centre = value["mean"] if "mean" in value else value["median"]
    low, high = value.get("minimum", value.get("least")), value.get("maximum", value.get("largest"))
    text, least, largest = (_text(part, unit) for part in (centre, low, high))
    return Number(centre, text if least == largest else f"{text} ({least} to {largest})")


def _sentence(text: str) -> str:
    """Begins a word with a capital: "Uplink: ...", but "mIoU: ..." and "q: ..." stay."""
    is_word = text[:2].isalpha() and text[:2].islower()
    return text[0].upper() + text[1:] if is_word else text


def _alone(cell: Cell) -> Cell:
    """Give a number digits of its own: the values above and below it measure something else."""
    return Number(cell, f"{cell:.4g}") if isinstance(cell, float) else cell


def _text(value: Any, unit: str) -> str:
    cell = cell_of(value, unit)
    return cell.text if isinstance(cell, Number) else f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _with_definitions(found: Mapping[str, Leaf], meanings: dict[str, str]) -> dict[str, Leaf]:
    """Give each `NAME_definition` of a document without a dataclass to the first value that it is about."""
    described = {}
    for path, leaf in found.items():
        parts = path.split(".")
        outer = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
        name = next((known for known in meanings if any(at == known or at.endswith(f"_{known}") for at in outer)), "")
        described[path] = dataclasses.replace(leaf, meaning=meanings.pop(name, ""))
    return described | {name: Leaf(name, None, text) for name, text in meanings.items()}
