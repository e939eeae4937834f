"""Training text: conversations answered by the target, and their file.

Imports no torch.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeai.core.errors import UsageError
from edgeai.spec.target.protocol import Target


@dataclass(frozen=True)
class Conversation:
    """One training sequence."""

    id: str
    ids: tuple[int, ...]
    """Token ids of the whole conversation, template included."""
    answers: tuple[tuple[int, int], ...]
    """Half-open ranges of `ids` written by the target; only these count in the loss."""
    temperature: float

    def to_json(self) -> str:
        """Return the conversation as a JSONL line."""
        record = {"id": self.id, "temperature": self.temperature, "answers": self.answers, "ids": self.ids}
        return json.dumps(record, separators=(",", ":"))

    @property
    def num_answer_tokens(self) -> int:
        """Number of tokens written by the target."""
        return sum(end - begin for begin, end in self.answers)


def load_conversations(path: Path) -> list[Conversation]:
    """Read a file of `write_conversations`, gzipped or not. An incomplete last line (of a killed run) is dropped.

    Raises:
        UsageError: The file is missing, or a line is not UTF-8 or not a conversation; names file and line.
    """
    if not path.is_file():
        raise UsageError(f"no such answers file: {path}", hint="leave data.answers empty to let the target write them")
    found = []
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise UsageError(f"cannot read {path}: {error}", hint="write the file with `edgeai spec train`") from error
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            found.append(_from_record(json.loads(line.decode())))
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{path}:{number}: the text is not UTF-8 (byte 0x{line[error.start]:02x})",
                hint="write the file with `edgeai spec train`",
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path}:{number}: not a conversation: {error}", hint="write the file with `edgeai spec train`"
            ) from error
    return found


def _from_record(record: Any) -> Conversation:
    ids = tuple(map(int, record["ids"]))
    spans = tuple((int(begin), int(end)) for begin, end in record["answers"])
    if not all(0 <= begin < end <= len(ids) for begin, end in spans):
        raise ValueError(f"an answer is outside the {len(ids)} tokens")
    return Conversation(str(record["id"]), ids, spans, float(record["temperature"]))


def check_answers(path: Path, conversations: Sequence[Conversation], target: Target) -> None:
    """Check that this target can have written the text.

    Raises:
        UsageError: A conversation is too long for the target or contains tokens outside its vocabulary.
    """
    hint = "give answers written by this target, or leave data.answers empty to let it write them"
    for conversation in conversations:
        length, highest = len(conversation.ids), max(conversation.ids, default=0)
        if length > target.shape.max_positions:
            raise UsageError(
                f"{path}: {conversation.id} has {length} tokens, {target.name} allows {target.shape.max_positions}",
                hint=hint,
            )
        if highest >= target.shape.vocab_size:
            raise UsageError(
                f"{path}: {conversation.id} contains token {highest}, "
                f"{target.name} has {target.shape.vocab_size} tokens",
                hint=hint,
            )
