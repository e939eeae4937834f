"""Schema of structured output: OpenAI's `response_format`, and vLLM's `structured_outputs` and older `guided_*` fields.

Source: OpenAI API reference, chat completions; vLLM documentation, "Structured Outputs".
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from edgeai.spec.constraints.grammar import GrammarSource

Schema = dict[str, Any]
Choice = Annotated[list[str], Field(min_length=1)]
_NAME = r"^[a-zA-Z0-9_-]{1,64}$"


class TextFormat(BaseModel):
    """Free text."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["text"]


class JsonObjectFormat(BaseModel):
    """Any JSON object."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["json_object"]

    @property
    def source(self) -> GrammarSource:
        """Source of the grammar."""
        return GrammarSource.json_object()


class NamedSchema(BaseModel):
    """A JSON schema with its name."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = Field(pattern=_NAME)
    description: str | None = None
    """Accepted for compatibility and ignored: the model does not see it."""
    schema_: Schema | None = Field(default=None, alias="schema")
    """Without it, any JSON object."""
    strict: bool | None = None
    """Accepted for compatibility and ignored: the answer always follows the schema."""

    @property
    def source(self) -> GrammarSource:
        """Source of the grammar."""
        return GrammarSource.json_object() if self.schema_ is None else _json_schema(self.schema_)


class JsonSchemaFormat(BaseModel):
    """JSON that is valid by a schema."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["json_schema"]
    json_schema: NamedSchema

    @property
    def source(self) -> GrammarSource:
        """Source of the grammar."""
        return self.json_schema.source


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class NamedSchemaFormat(NamedSchema):
    """JSON that is valid by a schema, without the level that `response_format` has; for /v1/responses."""

    type: Literal["json_schema"]


TextFormats = Annotated[TextFormat | JsonObjectFormat | NamedSchemaFormat, Field(discriminator="type")]


class StructuredOutputs(BaseModel):
    """vLLM's `structured_outputs`: exactly one kind of constraint."""

    model_config = ConfigDict(extra="forbid", strict=True)
    json_: Schema | str | None = Field(default=None, alias="json")
    """JSON schema, also as text."""
    regex: str | None = None
    choice: Choice | None = None
    grammar: str | None = None
    json_object: bool | None = None
    whitespace_pattern: None = None
    structural_tag: None = None
    disable_additional_properties: Literal[False] | None = None
    disable_any_whitespace: bool | None = None
    """Accepted for compatibility and ignored: there is no optional white space."""
    disable_fallback: bool | None = None
    """Accepted for compatibility and ignored: there is one backend."""

    @model_validator(mode="after")
    def _check_number(self) -> StructuredOutputs:
        kinds = (self.json_, self.regex, self.choice, self.grammar, self.json_object or None)
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("exactly one of json, regex, choice, grammar and json_object is needed")
        return self

    @property
    def source(self) -> GrammarSource:
        """Source of the grammar."""
        if self.json_object:
            return GrammarSource.json_object()
        if self.json_ is not None:
            return _json_schema(self.json_)
        if self.choice is not None:
            return GrammarSource("choice", json.dumps(self.choice))
        if self.regex is not None:
            return GrammarSource("regex", self.regex)
        return GrammarSource("grammar", self.grammar or "")


class ConstrainedRequest(BaseModel):
    """Fields of structured output; at most one of them."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    """Extension, as in vLLM."""
    guided_json: Schema | str | None = None
    """Former name of `structured_outputs.json`."""
    guided_regex: str | None = None
    """Former name of `structured_outputs.regex`."""
    guided_choice: Choice | None = None
    """Former name of `structured_outputs.choice`."""
    guided_grammar: str | None = None
    """Former name of `structured_outputs.grammar`."""

    @model_validator(mode="after")
    def _check_single(self) -> ConstrainedRequest:
        if len(names := self._constraints()) > 1:
            raise PydanticCustomError(
                "unsupported", "{first} and {name} cannot be combined", {"first": names[0], "name": names[1]}
            )
        return self

    @property
    def constraint_param(self) -> str | None:
        """Name of the field that constrains the answer; None for free text."""
        return next(iter(self._constraints()), None)

    @property
    def grammar_source(self) -> GrammarSource | None:
        """Grammar of structured output; None for free text."""
        for name in self._constraints():
            value = getattr(self, name)
            if name.startswith("guided_"):
                value = StructuredOutputs.model_validate({name.removeprefix("guided_"): value})
            source: GrammarSource = value.source
            return source
        return None

    def _constraints(self) -> list[str]:
        """Return the names of the fields that constrain the answer."""
        names = [name for name in ConstrainedRequest.model_fields if getattr(self, name) is not None]
        return [name for name in names if not isinstance(getattr(self, name), TextFormat)]


def _json_schema(schema: Schema | str) -> GrammarSource:
    return GrammarSource("json_schema", schema if isinstance(schema, str) else json.dumps(schema, ensure_ascii=False))
