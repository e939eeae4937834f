"""Formats in which models write tool calls. Imports no torch.

Source: chat templates of Hermes 2 Pro and Qwen 2.5, Llama 3.1 and Mistral 7B v0.3.
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass

from edgeai.spec.config.serve import ToolParser


@dataclass(frozen=True)
class ToolFormat:
    """Text around calls, each of which is a JSON object with the function's name and its arguments."""

    name: str
    opening: str
    """Text before the first call; empty if the whole answer has to be calls."""
    lead: str
    """Text between `opening` and the first call; white space is allowed around all texts."""
    separator: str
    """Text between two calls; empty if every call has its own `opening`."""
    closing: str
    """Text after the last call."""
    is_lead_optional: bool
    begin: str
    """Text before the first call, as the model writes it; grammars of forced calls have this text."""
    between: str
    """Text between two calls, as the model writes it."""
    end: str
    """Text after the last call, as the model writes it."""
    markers: tuple[str, ...]
    """Parts of these texts that may be special tokens, which are not part of a decoded text."""
    arguments_key: str
    new_id: Callable[[], str]
    """Returns a new id of a call, of a form that the chat template accepts when it comes back."""

    @property
    def header(self) -> re.Pattern[str]:
        """Beginning of a call up to its arguments, with the JSON string of the name."""
        return re.compile(rf'\{{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"{self.arguments_key}"\s*:\s*(?=\{{)')


def _openai_id() -> str:
    return f"call_{secrets.token_hex(12)}"


def _mistral_id() -> str:
    """Return nine letters and digits: Mistral's templates refuse all other ids."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))


HERMES = ToolFormat(
    name="hermes",
    opening="<tool_call>",
    lead="",
    separator="",
    closing="</tool_call>",
    is_lead_optional=True,
    begin="<tool_call>\n",
    between="\n</tool_call>\n<tool_call>\n",
    end="\n</tool_call>",
    markers=("<tool_call>", "</tool_call>"),
    arguments_key="arguments",
    new_id=_openai_id,
)
LLAMA3 = ToolFormat(
    name="llama3",
    opening="",
    lead="<|python_tag|>",
    separator=";",
    closing="",
    is_lead_optional=True,
    begin="",
    between="; ",
    end="",
    markers=("<|python_tag|>",),
    arguments_key="parameters",
    new_id=_openai_id,
)
MISTRAL = ToolFormat(
    name="mistral",
    opening="[TOOL_CALLS]",
    lead="[",
    separator=",",
    closing="]",
    is_lead_optional=False,
    begin="[TOOL_CALLS] [",
    between=", ",
    end="]",
    markers=("[TOOL_CALLS]",),
    arguments_key="arguments",
    new_id=_mistral_id,
)
_FORMATS = {found.name: found for found in (HERMES, LLAMA3, MISTRAL)}


def choose_format(parser: ToolParser, template: str | None) -> ToolFormat | None:
    """Return the format of a model's tool calls; None if the model has no known one.

    Args:
        parser: Name of the format; auto recognizes it by the chat template.
        template: Source of the chat template, if there is one.
    """
    if template is None or "tools" not in template:
        return None
    return _FORMATS.get(_recognized(template) if parser == "auto" else parser)


def _recognized(template: str) -> str:
    """Return the name of the format that a template asks for; newer formats with the same opening are not known."""
    if "<tool_call>" in template and "<function=" not in template:
        return "hermes"
    if "[TOOL_CALLS]" in template and "[ARGS]" not in template:
        return "mistral"
    if "<|start_header_id|>" in template and '"parameters": ' in template:
        return "llama3"
    return "none"
