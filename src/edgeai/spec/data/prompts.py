"""Prompt files: MT-Bench/Spec-Bench, GSM8K and ShareGPT records, as JSONL or a JSON array, or plain text lines.

Only user turns are read; the target writes all answers.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeai.core.assets import data_path
from edgeai.core.errors import UsageError

_BUILTIN = "prompts_builtin.txt"
_USER_ROLES = ("human", "user")
_FORMATS = (
    "each line needs one of: turns (MT-Bench), question (GSM8K), conversations or messages (ShareGPT); "
    "plain text, one prompt a line, goes into a .txt file"
)


@dataclass(frozen=True)
class Prompt:
    """User turns of one conversation."""

    id: str
    """File name and line (or array index) from one, such as "mt_bench.jsonl:3"."""
    source: str
    """Name of the prompt file, or "built-in"."""
    turns: tuple[str, ...]
    """User messages in order, never empty."""


def load_prompts(path: str | Path) -> list[Prompt]:
    """Read a prompt file.

    Args:
        path: Prompt file, also relative to the data folder EDGEAI_DATA. `.txt` files have one prompt per line, `.json`
            and `.jsonl` files have records; the format of other files is detected from the first character.

    Returns:
        At least one prompt. ShareGPT conversations without a user turn (which occur in published files) are skipped.

    Raises:
        UsageError: The file is missing, has no prompts, or has a line that is not a prompt; names file and line.
    """
    file = data_path(str(path))
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {file}: it is not UTF-8 text", hint=_FORMATS) from error
    if _is_json(file, text):
        entries = _array_entries(file, text) if text.lstrip().startswith("[") else _line_entries(file, text)
        found = [prompt for where, number, entry in entries for prompt in _from_record(file, where, number, entry)]
    else:
        found = _from_lines(text, file.name)
    if not found:
        raise UsageError(f"{file} contains no prompts", hint=_FORMATS)
    return found


def builtin_prompts() -> list[Prompt]:
    """Return the prompts shipped with the package, of varied task and length; written for this project."""
    text = importlib.resources.files("edgeai.spec.data").joinpath(_BUILTIN).read_text(encoding="utf-8")
    return _from_lines(text, "built-in")


def select(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """Return `count` prompts evenly spaced over the file, to cover sorted categories; all if there are fewer."""
    count = min(count, len(prompts))
    return [prompts[index * len(prompts) // count] for index in range(count)]


def _is_json(file: Path, text: str) -> bool:
    if file.suffix in (".json", ".jsonl"):
        return True
    return file.suffix != ".txt" and text.lstrip()[:1] in ("{", "[")


def _from_lines(text: str, source: str) -> list[Prompt]:
    lines = enumerate(text.split("\n"), start=1)
    return [Prompt(f"{source}:{number}", source, (line.strip(),)) for number, line in lines if line.strip()]


def _line_entries(file: Path, text: str) -> Iterator[tuple[str, int, Any]]:
    """Yield (location, number, record) of every line; JSON strings may contain U+2028, so only newlines end a line."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield f"{file}:{number}", number, json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError(f"{file}:{number}: not valid JSON: {error.msg}", hint=_FORMATS) from error


def _array_entries(file: Path, text: str) -> Iterator[tuple[str, int, Any]]:
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{file}:{error.lineno}: not valid JSON: {error.msg}", hint=_FORMATS) from error
    for number, record in enumerate(records, start=1):
        yield f"{file}: entry {number}", number, record


def _from_record(file: Path, where: str, number: int, record: Any) -> Iterator[Prompt]:
    """Yield the prompt of one record, or nothing for a conversation without a user turn."""
    if not isinstance(record, Mapping):
        raise UsageError(f"{where}: expected an object, found {type(record).__name__}", hint=_FORMATS)
    if "turns" in record:
        turns, may_skip = _texts(where, "turns", record["turns"]), False
    elif "question" in record:
        turns, may_skip = _texts(where, "question", [record["question"]]), False
    elif "conversations" in record:
        turns, may_skip = _user_texts(where, "conversations", record["conversations"], "from", "value"), True
    elif "messages" in record:
        turns, may_skip = _user_texts(where, "messages", record["messages"], "role", "content"), True
    else:
        raise UsageError(f"{where}: no known field among {_names(record)}", hint=_FORMATS)
    if turns:
        yield Prompt(f"{file.name}:{number}", file.name, turns)
    elif not may_skip:
        raise UsageError(f"{where}: turns is empty", hint=_FORMATS)


def _texts(where: str, field: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise UsageError(f"{where}: {field} is not a list", hint=_FORMATS)
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise UsageError(f"{where}: {field} contains a value that is not text", hint=_FORMATS)
    return tuple(values)


def _user_texts(where: str, field: str, messages: Any, role: str, content: str) -> tuple[str, ...]:
    if not isinstance(messages, list) or not all(isinstance(m, Mapping) and role in m for m in messages):
        raise UsageError(f"{where}: {field} is not a list of objects with '{role}' and '{content}'", hint=_FORMATS)
    asked = [m.get(content) for m in messages if m[role] in _USER_ROLES]
    return _texts(where, f"{field}.{content}", [text for text in asked if text != ""])


def _names(record: Mapping[str, Any]) -> str:
    return ", ".join(sorted(record)[:6]) or "none"
