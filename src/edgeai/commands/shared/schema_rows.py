"""A JSON schema as table rows: key, type, default, meaning."""

import json
from collections.abc import Iterator
from typing import Any

Node = dict[str, Any]


def key_rows(document: Node) -> list[list[str]]:
    """Flatten a config's JSON schema.

    Args:
        document: JSON schema from `model_json_schema`.

    Returns:
        One row per key, groups before their keys. The keys of one variant of several are written "draft(ngram).key".
    """
    return list(_rows(document, "", document.get("$defs", {})))


def _rows(group: Node, prefix: str, groups: dict[str, Node]) -> Iterator[list[str]]:
    for name, field in group["properties"].items():
        choices = field.get("anyOf") or field.get("oneOf") or [field]
        inner = [groups[_group_name(choice)] for choice in choices if "$ref" in choice]
        about = field.get("description") or (inner[0].get("description", "") if len(inner) == 1 else "")
        kinds = " | ".join(_kind(choice, groups) for choice in choices)
        yield [
            prefix + name,
            kinds,
            "" if len(choices) == len(inner) == 1 else _default(field),
            " ".join(about.split()),
        ]
        for variant in inner:
            tag = f"({_tag(variant)})" if len(inner) > 1 else ""
            yield from _rows(variant, f"{prefix}{name}{tag}.", groups)


def _kind(field: Node, groups: dict[str, Node]) -> str:
    if "$ref" in field:
        return _tag(groups[_group_name(field)]) or "group"
    if "const" in field:
        return str(field["const"])
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    if field.get("type") == "array":
        items = field.get("prefixItems") or [field.get("items", {})]
        return f"[{', '.join(_kind(item, groups) for item in items)}{'' if 'prefixItems' in field else ', ...'}]"
    limits = [
        f"{sign} {field[key]}"
        for key, sign in [("exclusiveMinimum", ">"), ("minimum", ">="), ("exclusiveMaximum", "<"), ("maximum", "<=")]
        if key in field
    ]
    name = str(field.get("format", field.get("type", "any")))
    return " and ".join([" ".join([name, *limits[:1]]), *limits[1:]])


def _default(field: Node) -> str:
    if "default" not in field:
        return "(required)"
    value = field["default"]
    if isinstance(value, dict) and "kind" in value:
        return str(value["kind"])
    return value if isinstance(value, str) and value else json.dumps(value)


def _group_name(field: Node) -> str:
    return str(field["$ref"]).rsplit("/", 1)[-1]


def _tag(group: Node) -> str:
    """Return the literal that identifies this variant of a union; "" for a plain group."""
    return next((str(field["const"]) for field in group["properties"].values() if "const" in field), "")
