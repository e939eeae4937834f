"""JSON schemas for tests of structured output: 60 written by hand and 140 generated."""

from __future__ import annotations

import random
from typing import Any

Schema = dict[str, Any]


def closed(optional: tuple[str, ...] = (), **properties: Any) -> Schema:
    """Return an object with these properties and no others; all but `optional` are required."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def text(longest: int = 8, **keywords: Any) -> Schema:
    return {"type": "string", "maxLength": longest, **keywords}


def array(items: Schema, least: int = 0, most: int = 3) -> Schema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


INTEGER, NUMBER, BOOLEAN, NULL = ({"type": name} for name in ("integer", "number", "boolean", "null"))
SCALARS: list[Schema] = [
    INTEGER,
    NUMBER,
    BOOLEAN,
    NULL,
    text(),
    {"type": ["string", "null"], "maxLength": 4},
    {"type": ["integer", "boolean"]},
    {"type": "integer", "minimum": -3, "maximum": 120},
    {"type": "integer", "exclusiveMinimum": 0, "maximum": 9999},
    {"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 1000},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "number", "exclusiveMinimum": -1.5, "exclusiveMaximum": 2.25},
    {"const": "only this"},
    {"const": 42},
    {"const": {"nested": [1, None, True]}},
    {"enum": ["red", "green", "blue"]},
    {"enum": ["a", "ab", "abc"]},
    {"enum": [1, "one", None, False, 1.5]},
    {"enum": ["Grüße", "你好", "🙂👍", "e\u0301", 'quoted "text"', "back\\slash", "line\nbreak"]},
]
STRINGS: list[Schema] = [
    {"type": "string", "minLength": 3, "maxLength": 5},
    {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
    {"type": "string", "pattern": r"^[A-Z]{2,4}[0-9]?$"},
    {"type": "string", "pattern": r"^(yes|no|maybe)$"},
    {"type": "string", "pattern": r"^[äöüß]{1,4}$"},
    {"type": "string", "pattern": r"^\+?[0-9]{3,9}$"},
    {"type": "string", "pattern": "^#[0-9a-f]{6}$"},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "time"},
    {"type": "string", "format": "uuid"},
    {"type": "string", "format": "ipv4"},
    {"type": "string", "format": "email", "maxLength": 16},
]
ARRAYS: list[Schema] = [
    array(INTEGER),
    array(text(4), 2, 2),
    array({"enum": ["x", "y"]}, 1, 4),
    array(array(BOOLEAN, 1, 2), 1, 2),
    {"type": "array", "prefixItems": [INTEGER, text(3)], "items": False, "minItems": 2},
    {"type": "array", "prefixItems": [{"const": "first"}], "items": BOOLEAN, "minItems": 1, "maxItems": 3},
    {"type": "array", "maxItems": 0},
]
OBJECTS: list[Schema] = [
    closed(),
    closed(name=text(), age={"type": "integer", "minimum": 0, "maximum": 150}),
    closed(("middle",), first=text(5), middle=text(5), last=text(5)),
    closed(("a", "b", "c"), a=INTEGER, b=BOOLEAN, c=NULL),
    closed(outer=closed(inner=closed(value={"type": "integer"}))),
    closed(**{"first name": text(3), "größe": NUMBER, "🙂": BOOLEAN, 'with "quotes"': NULL, "$ref": text(2)}),
    closed(items=array(closed(id=INTEGER, tags=array(text(3), 0, 2)), 1, 2)),
    {"type": "object", "additionalProperties": {"type": "integer", "maximum": 99}, "maxProperties": 2},
    {"type": "object", "properties": {"known": BOOLEAN}, "required": ["known"], "additionalProperties": text(2)},
    {"type": "object", "patternProperties": {"^n_[a-z]{1,2}$": INTEGER}, "additionalProperties": False},
    {"type": "object", "properties": {"a": INTEGER}, "required": ["a", "undeclared"]},
]
COMBINED: list[Schema] = [
    {"anyOf": [INTEGER, closed(error=text(4))]},
    {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 8}]},
    {"oneOf": [closed(kind={"const": "circle"}, r=INTEGER), closed(kind={"const": "square"}, side=INTEGER)]},
    {"oneOf": [INTEGER, text(3)]},
    {"allOf": [{"type": "integer", "minimum": 3}, {"type": "integer", "maximum": 7}]},
    {
        "allOf": [
            {"type": "object", "properties": {"a": INTEGER}, "required": ["a"]},
            {"type": "object", "properties": {"b": BOOLEAN}, "required": ["b"]},
        ]
    },
    {"$defs": {"point": closed(x=INTEGER, y=INTEGER)}, **closed(begin={"$ref": "#/$defs/point"})},
    {"definitions": {"id": {"type": "string", "pattern": "^[a-f]{4}$"}}, **closed(id={"$ref": "#/definitions/id"})},
    {
        "$defs": {"node": closed(value=INTEGER, children=array({"$ref": "#/$defs/node"}, 0, 2))},
        "$ref": "#/$defs/node",
    },
    {
        "$defs": {"list": {"anyOf": [NULL, closed(head=BOOLEAN, tail={"$ref": "#/$defs/list"})]}},
        **closed(list={"$ref": "#/$defs/list"}),
    },
]
HANDWRITTEN = [*SCALARS, *STRINGS, *ARRAYS, *OBJECTS, *COMBINED]
NAMES = ("id", "name", "größe", "is valid", "city_2", "数", "A", "very_long_property_name_of_a_record", "x-y", "🙂")


def generated(number: int) -> Schema:
    """Return a random object schema, two to four levels deep."""
    rng = random.Random(number)
    schema = _object(rng, rng.randint(1, 3))
    if rng.random() < 0.4:
        schema["$defs"] = {"shared": rng.choice([*SCALARS, *STRINGS])}
        schema["properties"]["shared"] = {"$ref": "#/$defs/shared"}
        schema["required"].append("shared")
    return schema


def _object(rng: random.Random, depth: int) -> Schema:
    names = rng.sample(NAMES, rng.randint(1, 4))
    optional = tuple(name for name in names if rng.random() < 0.3)
    return closed(optional, **{name: _value(rng, depth - 1) for name in names})


def _value(rng: random.Random, depth: int) -> Schema:
    kind = rng.random()
    if depth <= 0 or kind < 0.4:
        return rng.choice([*SCALARS, *STRINGS])
    if kind < 0.6:
        return _object(rng, depth)
    if kind < 0.8:
        least = rng.randint(0, 2)
        return array(_value(rng, depth - 1), least, least + rng.randint(0, 2))
    if kind < 0.9:
        return {"anyOf": [NULL, _object(rng, depth)]}
    return rng.choice([*ARRAYS, *OBJECTS])


SCHEMAS = [*HANDWRITTEN, *(generated(number) for number in range(200 - len(HANDWRITTEN)))]
