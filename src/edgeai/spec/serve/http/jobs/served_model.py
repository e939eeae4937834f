"""The served model as requests see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from edgeai.spec.config.serve import ReasoningParser, ToolParser
from edgeai.spec.constraints.grammar import GrammarCompiler
from edgeai.spec.serve.answers.reasoning import REASONING_MARKS, opens_reasoning
from edgeai.spec.serve.answers.tool_formats import ToolFormat, choose_format
from edgeai.spec.serve.http.errors import ApiError
from edgeai.spec.target.protocol import Target, Tokenizer

_NUM_LAST = 16  # tokens; enough for the opening tag and white space after it


@dataclass(frozen=True)
class ServedModel:
    """Name, tokenizer and limits of the served model."""

    name: str
    fingerprint: str
    tokenizer: Tokenizer
    vocab_size: int
    context: int
    """Most tokens of prompt and answer."""
    tool_format: ToolFormat | None = None
    """Format of the model's tool calls; None refuses tools."""
    splits_reasoning: bool = False
    """True splits off the text between <think> and </think>."""

    @cached_property
    def grammars(self) -> GrammarCompiler:
        """Compiler of grammars for this model."""
        return GrammarCompiler(self.tokenizer, self.vocab_size)

    def opens_reasoning(self, prompt_ids: Sequence[int]) -> bool:
        """Return True if the answer to a prompt begins inside the reasoning."""
        return opens_reasoning(self.tokenizer.decode(prompt_ids[-_NUM_LAST:], keep_special=True))

    @cached_property
    def marker_names(self) -> dict[int, str]:
        """Texts of the special tokens that mark tool calls and reasoning and have no text of their own, by token."""
        marks = self.tool_format.markers if self.tool_format else ()
        found = {}
        for mark in (*marks, *REASONING_MARKS):
            ids = self.tokenizer.encode(mark)
            if len(ids) == 1 and not self.tokenizer.decode(ids):
                found[ids[0]] = mark
        return found


def served_model(
    target: Target,
    *,
    name: str,
    context: int,
    tool_parser: ToolParser = "auto",
    reasoning_parser: ReasoningParser = "auto",
) -> ServedModel:
    """Describe a target; auto chooses the parsers by its chat template.

    Args:
        target: The model.
        name: Its name in the API.
        context: Most tokens of prompt and answer.
        tool_parser: Format of tool calls.
        reasoning_parser: Format of the reasoning.
    """
    template = target.tokenizer.chat_template
    has_tags = all(mark in (template or "") for mark in REASONING_MARKS)
    return ServedModel(
        name,
        target.fingerprint,
        target.tokenizer,
        target.shape.vocab_size,
        context,
        tool_format=choose_format(tool_parser, template),
        splits_reasoning=reasoning_parser == "think" or (reasoning_parser == "auto" and has_tags),
    )


def check_model(served: ServedModel, name: str) -> None:
    """Check that a request names the served model.

    Raises:
        ApiError: The request names another model.
    """
    if name != served.name:
        raise ApiError(404, f"no such model; this server serves '{served.name}'", param="model", code="model_not_found")
