"""System and user turns of one record, in the formats that data sets of this field use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeai.core.errors import UsageError

_LISTS = ("turns", "conversations", "messages")
_TEXTS = ("question", "prompt", "instruction")
_EXTRAS = ("input", "context", "system", "category")
FIELDS = (*_LISTS, *_TEXTS, *_EXTRAS)
"""Fields of a record that are read; the others are ignored."""
FORMATS = (
    "each record needs one of: turns (MT-Bench), question (GSM8K), conversations or messages (ShareGPT, OpenAI), "
    "prompt (HumanEval), instruction (Alpaca, Dolly); or is a string; "
    "plain text, one prompt a line, goes into a .txt file"
)
_USER_ROLES = ("human", "user")
_SYSTEM_ROLES = ("system", "developer")


@dataclass(frozen=True)
class Entry:
    """One record of a prompt file."""

    where: str
    """File and line for messages, such as "chat.jsonl:3"."""
    number: int
    """Line, array index or row, counted from one."""
    place: str
    """Number with its unit, such as "line 3"."""
    record: Any
    """Content: a string or a JSON value."""


@dataclass(frozen=True)
class Prompt:
    """System prompt and user turns of one conversation."""

    id: str
    """File name and line (or array index, or row) from one, such as "mt_bench.jsonl:3"."""
    source: str
    """Name of the prompt file, or "built-in"."""
    turns: tuple[str, ...]
    """User messages in order, never empty."""
    system: str = ""
    """System prompt; empty for none."""
    task: str = ""
    """Kind of task, such as "math"; empty if the file names none."""

    def messages(self, answers: Sequence[str]) -> list[dict[str, str]]:
        """Return the conversation up to the turn after these answers."""
        found = [{"role": "system", "content": self.system}] if self.system else []
        for text, answer in zip(self.turns, answers, strict=False):
            found += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
        return [*found, {"role": "user", "content": self.turns[len(answers)]}]


class SkippedTurns:
    """Counts the skipped turns of a file.

    Args:
        file: The prompt file.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.num_turns, self._first = file, 0, ""

    def add(self, place: str, reason: str) -> None:
        """Count one turn; the first one is named in the message."""
        self._first = self._first or f"{place}: {reason}"
        self.num_turns += 1

    def __str__(self) -> str:
        """Return the count and the first turn."""
        turns = "1 turn" if self.num_turns == 1 else f"{self.num_turns} turns"
        return f"skipped {turns} without usable text, first at {self._first}"


def read_prompt(entry: Entry, skipped: SkippedTurns) -> tuple[str, tuple[str, ...]]:
    """Return the system prompt and the user turns of a record; no turns if all of them were skipped.

    Args:
        entry: Record with its place in the file.
        skipped: Receives the turns that are null, blank or not one text.

    Raises:
        UsageError: The format of the record is unknown.
    """
    record = entry.record
    if record is None or isinstance(record, str):
        return "", _kept([("the entry", record)], entry, skipped)
    if not isinstance(record, Mapping):
        raise UsageError(f"{entry.where}: expected an object, found {type(record).__name__}", hint=FORMATS)
    named = [name for name in (*_LISTS, *_TEXTS) if name in record]
    if not named:
        raise UsageError(f"{entry.where}: no known field among {_names(record)}", hint=FORMATS)
    field = next((name for name in named if record[name] is not None), named[0])
    value = record[field]
    system = "".join(_kept([("system", record["system"])], entry, skipped)) if record.get("system") else ""
    if field in ("conversations", "messages") or (field == "prompt" and isinstance(value, list)):
        own, turns = _conversation(field, value, entry, skipped)
        return "\n\n".join(part for part in (system, own) if part), turns
    if field == "turns":
        return system, _turns(value, entry, skipped)
    turns = _kept([(field, value)], entry, skipped)
    if field == "instruction" and turns:
        turns = (_with_input(turns[0], record),)
    return system, turns


def task_of(entry: Entry) -> str:
    """Return the category that a record of MT-Bench, Spec-Bench or Dolly names; empty if it names none."""
    category = entry.record.get("category") if isinstance(entry.record, Mapping) else None
    return category.strip() if isinstance(category, str) else ""


def _turns(value: Any, entry: Entry, skipped: SkippedTurns) -> tuple[str, ...]:
    if value is not None and not isinstance(value, list):
        raise UsageError(f"{entry.where}: turns is not a list", hint=FORMATS)
    return _kept([("turns", turn) for turn in value or [None]], entry, skipped)


def _conversation(field: str, value: Any, entry: Entry, skipped: SkippedTurns) -> tuple[str, tuple[str, ...]]:
    """Return the system prompt and the user turns of a list of messages.

    System turns after the first user turn are skipped: chat templates allow only one at the beginning.
    """
    if value is None:
        return "", _kept([(field, None)], entry, skipped)
    if not isinstance(value, list):
        raise UsageError(f"{entry.where}: {field} is not a list of messages", hint=FORMATS)
    systems: list[tuple[str, Any]] = []
    users: list[tuple[str, Any]] = []
    for message in value:
        if message is None:
            skipped.add(entry.place, f"{field} contains null")
            continue
        role, text_key = _keys(field, message, entry)
        text = message.get(text_key)
        if role in _USER_ROLES:
            users.append((f"{field}.{text_key}", text))
        elif role in _SYSTEM_ROLES and users:
            skipped.add(entry.place, "a system turn follows a user turn")
        elif role in _SYSTEM_ROLES:
            systems.append((f"{field}.{text_key}", text))
    return "\n\n".join(_kept(systems, entry, skipped)), _kept(users, entry, skipped)


def _keys(field: str, message: Any, entry: Entry) -> tuple[str, str]:
    """Return the role of a message and the name of its text; Parquet fills the absent pair of names with null."""
    if isinstance(message, Mapping):
        for role_key, text_key in (("role", "content"), ("from", "value")):
            if isinstance(message.get(role_key), str):
                return message[role_key], text_key
    raise UsageError(
        f"{entry.where}: {field} is not a list of objects with 'role' and 'content', or 'from' and 'value'",
        hint=FORMATS,
    )


def _kept(texts: Sequence[tuple[str, Any]], entry: Entry, skipped: SkippedTurns) -> tuple[str, ...]:
    """Return the usable texts; the others are counted."""
    kept = []
    for name, text in texts:
        if reason := _defect(text):
            skipped.add(entry.place, f"{name} is {reason}")
        else:
            kept.append(text)
    return tuple(kept)


def _defect(text: Any) -> str:
    """Return why a value cannot be a turn; empty if it can."""
    if text is None:
        return "null"
    if isinstance(text, list):
        return "a list of parts"
    if not isinstance(text, str):
        return f"a value of type {type(text).__name__}"
    if not text.strip():
        return "blank"
    if any("\ud800" <= char <= "\udfff" for char in text):  # JSON escapes can express them, tokenizers fail on them
        return "a text with half of a surrogate pair"
    return ""


def _with_input(instruction: str, record: Mapping[str, Any]) -> str:
    """Append the input of an Alpaca record or the context of a Dolly record."""
    parts = [str(record[name]) for name in ("input", "context") if not _defect(record.get(name))]
    return "\n\n".join([instruction, *parts])


def _names(record: Mapping[str, Any]) -> str:
    return ", ".join(sorted(record)[:6]) or "none"
