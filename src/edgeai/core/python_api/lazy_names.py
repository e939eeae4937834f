"""Public names that are imported at their first use, so that `import edgeai` loads no torch."""

import ast
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def lazy_names(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package (PEP 562).

    The names are those that the package's `__init__.py` imports below `if TYPE_CHECKING:`, so that type checkers and
    the running program see the same ones.

    Args:
        package: The package's `__name__`.
        file: The package's `__file__`.
    """
    home_of = dict(_typed_names(Path(file)))

    def get(name: str) -> Any:
        module = sys.modules[package]
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=module)
        value = getattr(importlib.import_module(home_of[name]), name)
        setattr(module, name, value)
        return value

    return get, lambda: sorted(home_of)


def _typed_names(file: Path) -> Iterator[tuple[str, str]]:
    """Yield each name imported below `if TYPE_CHECKING:` with the module that defines it."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for item in node.body:
                if isinstance(item, ast.ImportFrom) and item.module:
                    yield from ((alias.name, item.module) for alias in item.names)
