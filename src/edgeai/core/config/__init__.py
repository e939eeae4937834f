"""Configs: one frozen pydantic model per verb, read from a whole YAML file, checked all at once."""

from edgeai.core.config.config import (
    Config,
    dump_config,
    find_config,
    load_config,
    load_with_changes,
    read_tree,
    shipped_configs,
    verb_of,
    with_changes,
)

__all__ = [
    "Config",
    "dump_config",
    "find_config",
    "load_config",
    "load_with_changes",
    "read_tree",
    "shipped_configs",
    "verb_of",
    "with_changes",
]
