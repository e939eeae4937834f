"""Grammar of answers that are tool calls with valid arguments.

Source: llguidance documentation, "Lark syntax".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from edgeai.spec.constraints.grammar import GrammarSource, json_rule
from edgeai.spec.serve.answers.tool_formats import ToolFormat

Schema = Mapping[str, Any]


def call_grammar(
    style: ToolFormat,
    functions: Mapping[str, Schema],
    *,
    is_parallel: bool,
    token_of: Callable[[str], int | None],
    answer: Schema | None = None,
) -> GrammarSource:
    """Return the grammar of calls, written as the model's chat template writes them.

    Args:
        style: Format of the calls.
        functions: JSON schema of the arguments of each function that may be called.
        is_parallel: True allows several calls, False exactly one.
        token_of: Returns the token of a marker; None if the tokenizer splits it into several.
        answer: JSON schema of an answer that may be given instead of calls; None demands calls.
    """

    def written(text: str) -> str:
        """Return a text whose markers are tokens, because text in a grammar does not match special tokens."""
        parts = re.split(f"({'|'.join(map(re.escape, style.markers))})", text)
        tokens = [token_of(part) if part in style.markers else None for part in parts]
        terms = [_quoted(part) if token is None else f"<[{token}]>" for part, token in zip(parts, tokens, strict=True)]
        return " ".join(term for term in terms if term != '""')

    numbers = range(len(functions))
    rules = [
        "start: calls" + (" | answer" if answer is not None else ""),
        f"calls: {written(style.begin)} call {f'({written(style.between)} call)* ' * is_parallel}{written(style.end)}",
        "call: " + " | ".join(f"call_{number}" for number in numbers),
    ]
    for number, (name, schema) in zip(numbers, functions.items(), strict=True):
        header = _quoted(f'{{"name": "{name}", "{style.arguments_key}": ')
        rules += [f'call_{number}: {header} arguments_{number} "}}"', f"arguments_{number}: {json_rule(schema)}"]
    if answer is not None:
        rules.append(f"answer: {json_rule(answer)}")
    return GrammarSource("lark", "\n".join(rules))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
