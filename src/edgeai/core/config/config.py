"""Configs: one frozen pydantic model per verb, read from a whole YAML file, checked all at once.

A top-level config has a field `verb` with a literal default ("spec train"), so that a file says what it is for.
"""

import importlib.resources
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from edgeai.core.config import yaml_text
from edgeai.core.config.problems import as_one_message, describe, dotted, nearest
from edgeai.core.config.yaml_text import Keys
from edgeai.core.errors import UsageError


class Config(pydantic.BaseModel):
    """Base of every schema: frozen, without unknown keys; the docstring below a field is its help text."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


C = TypeVar("C", bound=Config)


def load_config(schema: type[C], source: str | Path | None, overrides: Sequence[str] = ()) -> C:
    """Read, override and validate a config.

    Args:
        schema: The verb's schema; all defaults live there.
        source: A YAML file, a shipped name such as "spec/smollm2", or None for the defaults alone.
        overrides: Overrides such as "a.b=c", with YAML values; later ones win.

    Returns:
        The validated config.

    Raises:
        UsageError: The file or an override is invalid; the message has one line per problem.
    """
    tree: dict[str, Any] = {}
    lines: dict[Keys, int] = {}
    label = "defaults"
    if source is not None:
        path = find_config(source)
        tree, lines = read_tree(path)
        label = str(path)
    overridden = [_override(tree, schema, item) for item in overrides]
    _refuse_other_verb(schema, tree, label)
    try:
        return schema.model_validate(tree)
    except pydantic.ValidationError as error:
        problems = describe(schema, error, label, lines, overridden)
        raise UsageError(
            as_one_message(label, problems), hint=f"see the keys: edgeai config schema {verb_of(schema)}"
        ) from None


def read_tree(path: Path) -> tuple[dict[str, Any], dict[Keys, int]]:
    """Read a YAML mapping and the line number of each of its keys.

    Raises:
        UsageError: The file is missing, is not valid YAML, has a duplicate key, or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"cannot read {path}: {reason}") from None
    try:
        tree, lines, duplicates = yaml_text.parse(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UsageError(f"{where}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {error}") from None
    if duplicates:
        problems = [f"{path}:{line}: {dotted(keys)}: the key is given twice" for keys, line in duplicates]
        raise UsageError(as_one_message(str(path), problems), hint="keep one of the two")
    if tree is None:
        return {}, lines
    if not isinstance(tree, dict):
        raise UsageError(f"{path}: expected keys and values, found {type(tree).__name__}")
    return tree, lines


def dump_config(cfg: Config) -> str:
    """Return the config as YAML that `load_config` reads back to an equal config."""
    return yaml_text.render(cfg.model_dump(mode="json"))


def verb_of(schema: type[Config]) -> str:
    """Return the verb a schema belongs to, such as "spec train"; "" for a part of a config."""
    field = schema.model_fields.get("verb")
    return str(field.default) if field else ""


def shipped_configs() -> dict[str, Path]:
    """Return the configs that come with the package, by name ("spec/smollm2")."""
    root = Path(str(importlib.resources.files("edgeai"))) / "configs"
    if not root.is_dir():  # a source tree: configs/ lies beside src/
        root = Path(__file__).resolve().parents[4] / "configs"
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.glob("*/*.yaml"))}


def find_config(source: str | Path) -> Path:
    """Return the file that `source` names: a path first, then a shipped name.

    Raises:
        UsageError: There is no such file and no such shipped config.
    """
    if Path(source).is_file():
        return Path(source)
    shipped = shipped_configs()
    name = str(source)
    if name in shipped:
        return shipped[name]
    near = nearest(name, shipped)
    hint = f'did you mean "{near}"? ' if near else ""
    raise UsageError(
        f'no config "{name}": neither a file nor a shipped name', hint=hint + "list them: edgeai config list"
    )


def with_changes(cfg: C, changes: Mapping[str, Any]) -> C:
    """Return a config with other values, all of it validated again.

    Args:
        cfg: The config to start from; it stays as it is.
        changes: New values by key, such as {"optim.lr": 3e-4}.

    Raises:
        UsageError: Keys or values are invalid; all of them are listed, one a line.
    """
    return _changed(type(cfg), cfg.model_dump(mode="json"), changes)


def load_with_changes(schema: type[C], source: str | Path, changes: Mapping[str, Any]) -> C:
    """Read a config, set keys to other values and validate the result.

    Args:
        schema: The verb's schema.
        source: A YAML file or a shipped name such as "spec/smollm2".
        changes: New values by key, such as {"optim.lr": 3e-4}.

    Raises:
        UsageError: There is no such config, it is for another verb, or keys or values are invalid.
    """
    path = find_config(source)
    tree, _ = read_tree(path)
    _refuse_other_verb(schema, tree, str(path))
    return _changed(schema, tree, changes)


def _changed(schema: type[C], tree: dict[str, Any], changes: Mapping[str, Any]) -> C:
    for name, value in changes.items():
        _place(tree, schema, tuple(name.split(".")), value)
    try:
        return schema.model_validate(tree)
    except pydantic.ValidationError as error:
        problems = [problem.removeprefix(": ") for problem in describe(schema, error, "", {}, ())]
        raise UsageError("\n".join(problems), hint=f"see the keys: edgeai config schema {verb_of(schema)}") from None


def _override(tree: dict[str, Any], schema: type[Config], item: str) -> Keys:
    """Set one "a.b=c" in the tree."""
    name, equals, text = item.partition("=")
    keys = tuple(name.strip().split("."))
    if not equals or not all(keys):
        raise UsageError(f'--set "{item}": expected KEY=VALUE', hint="for example --set optim.lr=3e-4")
    try:
        value, _, duplicates = yaml_text.parse(text)
    except yaml.YAMLError:
        hint = "quote it: --set 'KEY=\"text\"'"
        raise UsageError(f'--set "{item}": the value is not valid YAML', hint=hint) from None
    if duplicates:
        raise UsageError(f'--set "{item}": the key {dotted(duplicates[0][0])} is given twice')
    _place(tree, schema, keys, value)
    return keys


def _place(tree: dict[str, Any], schema: type[Config], keys: tuple[str, ...], value: Any) -> None:
    """Set one value in the tree; a missing parent starts from the schema's default."""
    at = tree
    fields, tag = schema.model_fields, None
    for key in keys[:-1]:
        tag = fields[key].discriminator if key in fields else None
        default = fields[key].get_default(call_default_factory=True) if key in fields else None
        if not isinstance(at.get(key), dict):  # absent, or a value such as "auto" that the group replaces
            at[key] = default.model_dump(mode="json") if isinstance(default, Config) else {}
        at = at[key]
        fields = type(default).model_fields if isinstance(default, Config) else {}
    if keys[-1] == tag and at.get(keys[-1]) != value:
        at.clear()  # another variant has other keys
    at[keys[-1]] = value


def _refuse_other_verb(schema: type[Config], tree: Mapping[str, Any], label: str) -> None:
    found, wanted = tree.get("verb"), verb_of(schema)
    if wanted and found is not None and found != wanted:
        raise UsageError(
            f'{label} is a config for "{found}", not for "{wanted}"', hint=f"run it with: edgeai {found} -c {label}"
        )
