"""Schema of tools: names, number, size, and the shape of their JSON schemas.

Source: OpenAI API reference, `tools` and `tool_choice`; JSON Schema draft 2020-12.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_TOOLS = 128
MAX_SCHEMA_CHARS = 65536
"""Longest JSON schema of a function."""
ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
_TYPES = {"array", "boolean", "integer", "null", "number", "object", "string"}
_SCHEMA_MAPS = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
_SCHEMA_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SCHEMAS = ("additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then")
_STRINGS = ("$ref", "description", "format", "pattern", "title")
_NUMBERS = ("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf")
_COUNTS = ("maxItems", "maxLength", "maxProperties", "minItems", "minLength", "minProperties")


def _check_parameters(schema: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(schema)) > MAX_SCHEMA_CHARS:
        raise ValueError(f"the JSON schema is longer than {MAX_SCHEMA_CHARS} characters")
    if schema.get("type", "object") != "object":
        raise ValueError("the JSON schema must be of type object")
    _check_schema(schema, "")
    return schema


def _check_schema(schema: Any, place: str) -> None:
    """Check the types of the keywords of a JSON schema; other keywords are annotations.

    Raises:
        ValueError: A keyword has a value of another type; names its place.
    """
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise ValueError(f"{place or 'the JSON schema'} is not a JSON schema")
    for name, value in schema.items():
        where = f"{place}.{name}" if place else name
        if not _is_valid(name, value):
            raise ValueError(f"{where[:200]} is not valid in a JSON schema")
        if name in _SCHEMA_MAPS:
            for key, part in value.items():
                _check_schema(part, f"{where}.{key}")
        elif name in _SCHEMA_LISTS:
            for index, part in enumerate(value):
                _check_schema(part, f"{where}.{index}")
        elif name in _SCHEMAS:
            _check_schema(value, where)


def _is_valid(name: str, value: Any) -> bool:
    """Return True if the value has the type of the keyword."""
    if name == "type":
        types = value if isinstance(value, list) else [value]
        return bool(types) and all(isinstance(one, str) and one in _TYPES for one in types)
    if name == "required":
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if name == "enum":
        return isinstance(value, list) and bool(value)
    if name in _SCHEMA_MAPS:
        return isinstance(value, dict)
    if name in _SCHEMA_LISTS:
        return isinstance(value, list) and bool(value)
    if name in _STRINGS:
        return isinstance(value, str)
    if name in _NUMBERS:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if name in _COUNTS:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return True


class Function(BaseModel):
    """A function that the model may call."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: ToolName
    description: str | None = None
    parameters: Annotated[dict[str, Any], AfterValidator(_check_parameters)] | None = None
    """JSON schema of the arguments; without it there are none."""
    strict: bool | None = None
    """Accepted for compatibility with OpenAI's clients: `tool_choice` decides whether a call follows the schema."""

    @property
    def schema_or_empty(self) -> dict[str, Any]:
        """JSON schema of the arguments."""
        return self.parameters or {"type": "object", "properties": {}}

    def for_template(self) -> dict[str, Any]:
        """Return the tool in the form that chat templates read."""
        function = {"name": self.name, "description": self.description or "", "parameters": self.schema_or_empty}
        return {"type": "function", "function": function}


class Tool(BaseModel):
    """A tool; functions only."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["function"]
    function: Function
    cache_control: Any = None
    """Accepted for compatibility with clients of other providers and ignored."""


class ChosenFunction(BaseModel):
    """Name of the function that has to be called."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: ToolName


class NamedChoice(BaseModel):
    """`tool_choice` of one function."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["function"]
    function: ChosenFunction


ToolChoice = Literal["none", "auto", "required"] | NamedChoice


def check_choice(functions: Sequence[Function], choice: ToolChoice | None) -> None:
    """Check that the names are unique, and that the choice is one of them.

    Raises:
        ValueError: They are not.
    """
    names = [function.name for function in functions]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"tools: two functions are named '{twice}'")
    if isinstance(choice, NamedChoice) and choice.function.name not in names:
        raise ValueError("tool_choice: no tool has this name")
    if choice == "required" and not names:
        raise ValueError("tool_choice: 'required' needs tools")
