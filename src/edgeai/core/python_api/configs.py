"""The config of a library call: an object, a shipped name or a file, with overrides."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from edgeai.core.config import Config, load_config, load_with_changes, verb_of, with_changes
from edgeai.core.errors import UsageError
from edgeai.core.run import Run

C = TypeVar("C", bound=Config)
Overrides: TypeAlias = Mapping[str, Any]
"""Config keys and their new values, such as {"optim.lr": 3e-4}."""


def settle_config(
    schema: type[C],
    config: C | str | Path | None,
    overrides: Overrides | None,
    *,
    default: str | None = None,
    resume: bool = False,
    out: str | Path | None = None,
) -> C:
    """Return the validated config of a call.

    Args:
        schema: Config class of the verb.
        config: Config object, shipped name such as "collab/smoke", YAML file, or None.
        overrides: Keys to change, such as {"optim.lr": 3e-4}; everything is validated again.
        default: Shipped name that replaces None; without one, None means the defaults of the schema.
        resume: Take the config of the run in `out`; `config` and `overrides` must then be None.
        out: Run directory.

    Raises:
        UsageError: There is no such config or run, it is of another verb, or keys or values are invalid.
    """
    if resume:
        if out is None:
            raise UsageError("resume=True needs the run directory to continue", hint="give out=DIRECTORY")
        if config is not None or overrides:
            raise UsageError("resume=True takes the config from the run", hint="leave out config and overrides")
        return load_config(schema, Run.open(Path(out)).config_path)
    if config is None:
        config = default
    overrides = _with_text_paths(overrides or {})
    if isinstance(config, Config):
        if not isinstance(config, schema):
            hint = f"see the keys: edgeai config schema {verb_of(schema)}"
            raise UsageError(f"expected a {schema.__name__}, got a {type(config).__name__}", hint=hint)
        return with_changes(config, overrides) if overrides else config
    if config is None:
        return with_changes(schema(), overrides)
    return load_with_changes(schema, config, overrides) if overrides else load_config(schema, config)


def _with_text_paths(value: Any) -> Any:
    """Replace every `Path` by its text: some keys that hold a path may hold a name as well, and are strings."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _with_text_paths(item) for key, item in value.items()}
    return [_with_text_paths(item) for item in value] if isinstance(value, list | tuple) else value
