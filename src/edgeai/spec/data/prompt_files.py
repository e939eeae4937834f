"""Prompt files as a sequence of entries: text lines, JSON lines, a JSON array or the rows of a Parquet file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.spec.data.prompt_records import FIELDS, FORMATS, Entry

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_PARQUET = b"PAR1"


def read_entries(file: Path) -> Iterator[Entry]:
    """Yield the entries of a prompt file; blank lines are dropped.

    Raises:
        UsageError: The file cannot be read, is not UTF-8, or is not valid JSON or Parquet.
        EdgeAIError: The file is Parquet and pyarrow is not installed.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    if data.startswith(_PARQUET) or file.suffix == ".parquet":
        return _row_entries(file)
    text = _decode(file, data)
    if not _is_json(file, text):
        return _text_entries(file, text)
    first = text.lstrip()[:1]
    if first == "[" or (first == "{" and _is_one_object(file, text)):
        return _array_entries(file, text)
    return _line_entries(file, text)


def _decode(file: Path, data: bytes) -> str:
    """Return the text of UTF-8 data; a byte order mark is dropped."""
    hint = f"convert it, for example: iconv -f {{}} -t UTF-8 {file.name} > utf8-{file.name}"
    if data.startswith(_UTF16):
        raise UsageError(f"{file}:1: the text is UTF-16, not UTF-8", hint=hint.format("UTF-16"))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # error.object lacks the byte order mark
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{file}:{line}: the text is not UTF-8 (byte 0x{error.object[error.start]:02x})",
            hint=hint.format("WINDOWS-1252"),
        ) from None


def _is_json(file: Path, text: str) -> bool:
    if file.suffix in (".json", ".jsonl"):
        return True
    return file.suffix != ".txt" and text.lstrip()[:1] in ("{", "[")


def _is_one_object(file: Path, text: str) -> bool:
    """Whether the text is one JSON object of several lines instead of one object a line."""
    if "\n" not in text.strip():
        return False
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return file.suffix == ".json" and error.msg != "Extra data"
    except (ValueError, RecursionError):
        return False
    return True


def _text_entries(file: Path, text: str) -> Iterator[Entry]:
    for number, line in _lines(text):
        yield Entry(f"{file}:{number}", number, f"line {number}", line.strip())


def _line_entries(file: Path, text: str) -> Iterator[Entry]:
    for number, line in _lines(text):
        yield Entry(f"{file}:{number}", number, f"line {number}", _parse(file, line, number))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield number and text of the lines that are not blank.

    JSON strings may contain U+2028, so only newlines end a line.
    """
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _array_entries(file: Path, text: str) -> Iterator[Entry]:
    value = _parse(file, text, 1)
    for number, record in enumerate(value if isinstance(value, list) else [value], start=1):
        yield Entry(f"{file}: entry {number}", number, f"entry {number}", record)


def _parse(file: Path, text: str, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line, reason = first_line + error.lineno - 1, error.msg
    except RecursionError:
        line, reason = first_line, "too deeply nested"
    except ValueError as error:  # a number of too many digits
        line, reason = first_line, str(error).split(";")[0]
    raise UsageError(f"{file}:{line}: not valid JSON: {reason}", hint=FORMATS)


def _row_entries(file: Path) -> Iterator[Entry]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise EdgeAIError(
            f"{file}: reading Parquet needs pyarrow, which is not installed",
            hint="pip install pyarrow, or convert the file to .jsonl",
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            names = table.schema_arrow.names
            columns = [name for name in names if name in FIELDS]
            if not columns:
                found = ", ".join(sorted(names)[:6])
                raise UsageError(f"{file}: no known field among the columns {found}", hint=FORMATS)
            number = 0
            for batch in table.iter_batches(columns=columns):
                for record in batch.to_pylist():
                    number += 1
                    yield Entry(f"{file}: row {number}", number, f"row {number}", record)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"cannot read {file}: not a valid Parquet file: {reason}", hint=FORMATS) from error
