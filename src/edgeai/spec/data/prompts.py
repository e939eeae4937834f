"""Prompts from files of the field's formats, and the prompts shipped with the package.

Only system and user turns are read; the target writes all answers.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeai.core.assets import data_path
from edgeai.core.errors import UsageError
from edgeai.spec.data.prompt_files import read_entries
from edgeai.spec.data.prompt_records import FORMATS, Entry, Prompt, SkippedTurns, read_prompt, task_of

__all__ = ["Prompt", "builtin_prompts", "load_prompts", "select"]

_BUILTIN = "prompts_builtin.txt"


def load_prompts(path: str | Path, *, on_skip: Callable[[str], None] | None = None) -> list[Prompt]:
    """Read a prompt file.

    Args:
        path: Prompt file, also relative to the data folder EDGEAI_DATA. `.txt` files have one prompt per line, `.json`
            and `.jsonl` files have records or strings, `.parquet` files have a record per row; the format of other
            files is detected from their first bytes.
        on_skip: Called with one line if turns without text were skipped.

    Returns:
        At least one prompt.

    Raises:
        UsageError: The file is missing or not UTF-8, has no prompts, or has a record of an unknown format; names file
            and line.
    """
    file = data_path(str(path))
    skipped = SkippedTurns(file)
    found = [prompt for entry in read_entries(file) if (prompt := _prompt(file, entry, skipped))]
    if not found:
        raise UsageError(f"{file} contains no prompts" + (f": {skipped}" if skipped.num_turns else ""), hint=FORMATS)
    if skipped.num_turns and on_skip:
        on_skip(f"{file}: {skipped}")
    return found


def builtin_prompts() -> list[Prompt]:
    """Return the prompts shipped with the package, of varied task and length; written for this project."""
    text = importlib.resources.files("edgeai.spec.data").joinpath(_BUILTIN).read_text(encoding="utf-8")
    lines = enumerate(text.split("\n"), start=1)
    return [Prompt(f"built-in:{number}", "built-in", (line.strip(),)) for number, line in lines if line.strip()]


def select(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """Return `count` prompts evenly spaced over the file, to cover sorted categories; all if there are fewer."""
    count = min(count, len(prompts))
    return [prompts[index * len(prompts) // count] for index in range(count)]


def _prompt(file: Path, entry: Entry, skipped: SkippedTurns) -> Prompt | None:
    system, turns = read_prompt(entry, skipped)
    return Prompt(f"{file.name}:{entry.number}", file.name, turns, system, task_of(entry)) if turns else None
