"""Problems of a config, located by file, line and key."""

import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pydantic
from pydantic_core import ErrorDetails

from edgeai.core.config.yaml_text import Keys

Model = type[pydantic.BaseModel]


def describe(
    schema: Model, error: pydantic.ValidationError, label: str, lines: Mapping[Keys, int], overridden: Sequence[Keys]
) -> list[str]:
    """Turn a pydantic error into one "file:line: key: problem" per key.

    Args:
        schema: Model that rejected the data.
        error: Validation error of the model.
        label: Name of the file.
        lines: Line of each key in the file.
        overridden: Keys set by --set.

    Returns:
        The problems in the schema's order; a key that fits no member of a union is one problem.
    """
    reasons: dict[Keys, list[str]] = {}
    got: dict[Keys, str] = {}
    for item in error.errors():
        keys, models = _walk(schema, item["loc"])
        reasons.setdefault(keys, []).append(_reason(item, models))
        got[keys] = _got(item)
    problems = []
    for keys, found in reasons.items():
        if any(len(other) > len(keys) and other[: len(keys)] == keys for other in reasons):
            continue  # another member of the union fits better: its own problem is listed
        where = _where(keys, label, lines, overridden)
        key = f"{dotted(keys)}: " if keys else ""
        problems.append(f"{where}: {key}{' or '.join(dict.fromkeys(found))}{got[keys]}")
    return problems


def as_one_message(label: str, problems: Sequence[str]) -> str:
    """Join problems into one message: a single line, or a heading and one line each."""
    if len(problems) == 1:
        return problems[0]
    return "\n  ".join([f"{label} has {len(problems)} problems:", *problems])


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to `word`, or None if none is similar."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return found[0] if found else None


def dotted(keys: Keys) -> str:
    """Return keys in the notation of --set."""
    return ".".join(str(key) for key in keys)


def _where(keys: Keys, label: str, lines: Mapping[Keys, int], overridden: Sequence[Keys]) -> str:
    """Return the location of the nearest enclosing key in the file, or --set."""
    if keys and any(keys[: len(item)] == item[: len(keys)] for item in overridden):
        return "--set"
    marked = [lines[keys[:end]] for end in range(len(keys), 0, -1) if keys[:end] in lines]
    return f"{label}:{marked[0]}" if marked else label


def _reason(error: ErrorDetails, models: Sequence[Model]) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        near = nearest(str(error["loc"][-1]), {name for model in models for name in model.model_fields})
        return f'unknown key; did you mean "{near}"?' if near else "unknown key"
    if kind == "missing":
        return "the key is required"
    if kind in ("model_type", "model_attributes_type"):
        return "should be a group of keys"
    if kind == "union_tag_invalid":
        return _wrong_tag(**error["ctx"])
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return message[:1].lower() + message[1:]


def _wrong_tag(discriminator: str, tag: str, expected_tags: str) -> str:
    """Suggest the closest member of a union, or lists all."""
    near = nearest(tag, [known.strip("' ") for known in expected_tags.split(",")])
    if near:
        return f"{discriminator} cannot be '{tag}'; did you mean \"{near}\"?"
    return f"{discriminator} should be {expected_tags} (got '{tag}')"


def _got(error: ErrorDetails) -> str:
    given = error["input"]
    says_it_already = error["type"] in ("extra_forbidden", "value_error")
    return f" (got {given!r})" if isinstance(given, str | int | float | None) and not says_it_already else ""


def _walk(schema: Model, loc: Sequence[str | int]) -> tuple[Keys, list[Model]]:
    """Follow a pydantic location, which also holds the names of union members.

    Args:
        schema: The model it starts from.
        loc: The location, such as ("tree", "fixed", "num_node").

    Returns:
        The keys a person wrote ("tree", "num_node"), and the models that could hold the last of them.
    """
    keys: list[str | int] = []
    parents, at = [schema], _members(schema)
    for step in loc:
        models = _models(at)
        fields = [model.model_fields[step].annotation for model in models if step in model.model_fields]
        tagged = [model for model in models if _is_tag(model, step)]
        if fields or not (tagged or _names_type(step, at)):
            keys.append(step)
            parents, at = models, [item for inner in fields or _held(at) for item in _members(inner)]
        elif tagged:
            parents = at = tagged
    return tuple(keys), parents


def _members(annotation: Any) -> list[Any]:
    """Flatten Annotated, Optional and unions to their members."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [member for argument in typing.get_args(annotation) for member in _members(argument)]
    return [annotation]


def _models(members: Sequence[Any]) -> list[Model]:
    return [item for item in members if isinstance(item, type) and issubclass(item, pydantic.BaseModel)]


def _held(members: Sequence[Any]) -> list[Any]:
    """Return what the containers among the members hold: a dict's values, a list's or tuple's items."""
    held: list[Any] = []
    for item in members:
        arguments = typing.get_args(item)
        if typing.get_origin(item) is dict:
            held.append(arguments[1])
        elif typing.get_origin(item) in (list, tuple, set, frozenset):
            held += [argument for argument in arguments if argument is not Ellipsis]
    return held


def _is_tag(model: Model, step: str | int) -> bool:
    """Whether pydantic calls this member of a union `step`: its class name or the literal in its tag."""
    return step == model.__name__ or step in [field.default for field in model.model_fields.values()]


def _names_type(step: str | int, members: Sequence[Any]) -> bool:
    """Whether `step` is pydantic's name for a plain member of a union, such as "int" or "literal['auto']"."""
    names = {getattr(item, "__name__", "") for item in members}
    return len(members) > 1 and isinstance(step, str) and (step in names or "[" in step)
