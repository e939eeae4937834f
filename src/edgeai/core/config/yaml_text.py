"""YAML with the meanings of YAML 1.2, and with line numbers.

PyYAML follows YAML 1.1, where `off` is a boolean, `1e-4` a string, `1:30` a number and `2024-01-01` a date. Here only
`true`/`false` are booleans, `1e-4` is a number and the rest are strings. Reading and writing share the rules, so that
what is written reads back the same. Merge keys (`<<`) are not special: a config is complete and readable alone.
"""

import re
from typing import Any

import yaml

_RULES = [
    ("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        re.compile(
            r"^(?:[-+]?(?:0|[1-9][0-9_]*)(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.[0-9]+(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        list("-+.0123456789"),
    ),
]


class _Loader(yaml.SafeLoader):
    """Reads with the rules above instead of PyYAML's."""


class _Dumper(yaml.SafeDumper):
    """Writes with the rules above, so that it quotes what they would misread."""


_Loader.yaml_implicit_resolvers = {}
_Dumper.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _RULES:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)

Keys = tuple[str | int, ...]
"""Path from the top of a document to one value."""


def parse(text: str) -> tuple[Any, dict[Keys, int], list[tuple[Keys, int]]]:
    """Read one YAML document.

    Args:
        text: The document.

    Returns:
        The value, the line (from 1) of every key in it, and each key given twice with the second one's line.

    Raises:
        yaml.YAMLError: The text is not valid YAML.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        lines: dict[Keys, int] = {}
        duplicates: list[tuple[Keys, int]] = []
        _locate(node, (), lines, duplicates)
        return (None if node is None else loader.construct_document(node)), lines, duplicates
    finally:
        loader.dispose()


def render(value: Any) -> str:
    """Write plain Python data as YAML in its own order."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


def _locate(node: Any, at: Keys, lines: dict[Keys, int], duplicates: list[tuple[Keys, int]]) -> None:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            here = (*at, str(key.value))
            line = key.start_mark.line + 1
            if here in seen:
                duplicates.append((here, line))
            seen.add(here)
            lines[here] = line
            _locate(value, here, lines, duplicates)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*at, index)] = value.start_mark.line + 1
            _locate(value, (*at, index), lines, duplicates)
