"""Grammars compiled with llguidance for one tokenizer.

llguidance was chosen over xgrammar (versions 1.9.1 and 0.2.9, tokenizer of SmolLM2 with 49,152 tokens, one core of
a Xeon): both compile small schemas in 0.4 to 5 ms and compute a mask in under 10 microseconds (median), which is
nothing beside a pass of a model. llguidance also refuses the keywords of JSON schemas that it does not enforce, bounds
the work of compilation and of every mask, gives forced text as the tokenizer splits it, and depends on nothing.

JSON is written as `json.dumps` of Python writes it, with one space after commas and colons and no other white space:
small models otherwise write white space without end, and more text is forced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from edgeai.core.errors import UsageError
from edgeai.spec.constraints.constraint import Constraint, ConstraintError, Grammar, Mask
from edgeai.spec.target.protocol import Tokenizer

MAX_CHARS = 65536
"""Longest source of a grammar."""
_JSON_STYLE = {
    "item_separator": ", ",
    "key_separator": ": ",
    "whitespace_flexible": False,
    "whitespace_pattern": None,
    "coerce_one_of": False,
    "lenient": False,  # keywords that are not enforced are errors
}
# as the library's defaults, apart from the time of compilation, which stays below about a second
_LIMITS = {"initial_lexer_fuel": 1_000_000, "max_grammar_size": 200_000, "verbose_errors": False}


class MissingLibrary(UsageError):
    """The package llguidance is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "structured output needs the package llguidance, which is not installed",
            hint="pip install 'edgeai[structured]'",
        )


@dataclass(frozen=True)
class GrammarSource:
    """Source of a grammar."""

    kind: Literal["json_schema", "regex", "choice", "grammar", "lark"]
    text: str
    """JSON schema; regular expression of the whole answer, in the syntax of Rust's regex; list of strings as JSON;
    grammar, in llguidance's Lark syntax or llama.cpp's GBNF; or grammar in llguidance's Lark syntax only."""

    @classmethod
    def json_object(cls) -> GrammarSource:
        """Return the source of any JSON object."""
        return cls("json_schema", '{"type": "object"}')


def parse_schema(text: str) -> dict[str, Any]:
    """Return the JSON schema that a text holds, as an object.

    Raises:
        ValueError: The text is not a JSON schema.
    """
    schema = json.loads(text)
    if isinstance(schema, bool):
        schema = {} if schema else {"enum": []}
    if not isinstance(schema, dict):
        raise ValueError("a JSON schema is an object or a boolean")
    return schema


def json_rule(schema: Mapping[str, Any]) -> str:
    """Return the right side of a rule in Lark syntax that matches JSON by a schema."""
    return f"%json {json.dumps({**schema, 'x-guidance': _JSON_STYLE}, ensure_ascii=False)}"


class GrammarCompiler:
    """Compiles grammars for one tokenizer.

    Args:
        tokenizer: The target's tokenizer.
        vocab_size: Number of tokens that the target scores.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._tokenizer, self._vocab_size = tokenizer, vocab_size

    def compile(self, source: GrammarSource) -> Grammar:
        """Compile a grammar, and check that it allows a first token. May be called from any thread.

        Raises:
            ConstraintError: The source has an error, uses an unsupported feature, allows no text or exceeds a limit.
            MissingLibrary: The package llguidance is not installed.
        """
        if len(source.text) > MAX_CHARS:
            raise ConstraintError(f"longer than {MAX_CHARS} characters")
        vocabulary = self._vocabulary
        from llguidance import LLMatcher, LLParserLimits

        try:
            definition = _definition(source)
        except (ValueError, RecursionError) as error:
            raise ConstraintError(_one_line(error)) from error
        matcher = LLMatcher(vocabulary, definition, log_level=0, limits=LLParserLimits(**_LIMITS))
        compiled = _CompiledGrammar(matcher, self._vocab_size, self._tokenizer.eos_ids)
        compiled.start().mask()
        return compiled

    @cached_property
    def _vocabulary(self) -> Any:
        try:
            from llguidance import LLTokenizer
        except ImportError as error:
            raise MissingLibrary from error
        definition = self._tokenizer.definition
        if definition is None:
            raise ConstraintError("the tokenizer of this model has no tokenizer.json")
        eos_ids = sorted(self._tokenizer.eos_ids)
        num_known = LLTokenizer(definition, eos_token=eos_ids).vocab_size
        return LLTokenizer(definition, n_vocab=max(num_known, self._vocab_size), eos_token=eos_ids)


@dataclass(frozen=True)
class _CompiledGrammar:
    """`Grammar` of llguidance."""

    matcher: Any
    vocab_size: int
    eos_ids: frozenset[int]

    def start(self) -> Constraint:
        """See `Grammar`."""
        return _Position(self.matcher.deep_copy(), self.vocab_size, self.eos_ids)


class _Position:
    """`Constraint` of llguidance.

    The library does not undo an end-of-text token after a complete text, so that it never reads one.

    Args:
        matcher: State of the library; errors put it into a state that it never leaves.
        vocab_size: Number of tokens that the target scores; the vocabulary may have more.
        eos_ids: End-of-text tokens.
    """

    def __init__(self, matcher: Any, vocab_size: int, eos_ids: frozenset[int]) -> None:
        self._matcher, self._vocab_size, self._eos_ids = matcher, vocab_size, eos_ids
        self._has_ended = False

    def mask(self) -> Mask:
        """See `Constraint`."""
        packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(packed, count=self._vocab_size, bitorder="little").view(np.bool_)
        self._check()
        if not allowed.any():
            raise ConstraintError("no token of the vocabulary can continue the text")
        return allowed

    def allows(self, token: int) -> bool:
        """See `Constraint`."""
        if self._has_ended:
            return False
        if token in self._eos_ids:
            return bool(self._matcher.is_accepting())
        return token < self._vocab_size and bool(self._matcher.validate_tokens([token]))

    def advance(self, token: int) -> None:
        """See `Constraint`."""
        if token in self._eos_ids and self.allows(token):
            self._has_ended = True
            return
        self._matcher.consume_token(token)
        self._check()

    def rollback(self, count: int) -> None:
        """See `Constraint`."""
        num_read = count - self._has_ended
        self._has_ended = False
        if num_read:
            self._matcher.rollback(num_read)

    def forced(self) -> list[int]:
        """See `Constraint`."""
        if self._has_ended:
            return []
        if self._matcher.is_stopped():
            return [min(self._eos_ids)]
        return list(self._matcher.compute_ff_tokens())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ConstraintError(_one_line(self._matcher.get_error()))


def _definition(source: GrammarSource) -> str:
    """Return a source in the library's format.

    Raises:
        ValueError: It has an error.
    """
    from llguidance import LLMatcher, grammar_from

    if source.kind == "choice":
        choices = " | ".join(json.dumps(text, ensure_ascii=False) for text in json.loads(source.text))
        return LLMatcher.grammar_from_lark(f"start: {choices}")
    if source.kind == "lark":
        return LLMatcher.grammar_from_lark(source.text)
    if source.kind != "json_schema":
        return grammar_from(source.kind, source.text)
    return LLMatcher.grammar_from_json_schema(parse_schema(source.text), overrides=_JSON_STYLE)


def _one_line(error: object) -> str:
    """Return the library's message in one line."""
    text = " ".join(str(error).replace("<non-verbose/>", "").split())
    if text.startswith("NoExtension"):
        return "no text follows the grammar"
    return text[:300] or type(error).__name__
