"""The shape of the source tree: no import circles, folders that can be taken in at a glance, no oversized files."""

import graphlib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "edgeai"
MAX_FILES = 15
"""Modules in one folder, not counting __init__.py."""
MAX_LINES = 500


def circle(imports: dict[str, set[str]]) -> list[str] | None:
    """Returns one import circle, or None if there is none.

    Args:
        imports: Imported modules by importing module.
    """
    try:
        tuple(graphlib.TopologicalSorter(imports).static_order())
    except graphlib.CycleError as error:
        return list(error.args[1])
    return None


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Every import of the package, also those inside functions, but not those for type checkers alone."""
    graph = grimp.build_graph("edgeai", exclude_type_checking_imports=True, cache_dir=None)
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def test_there_are_no_import_circles(imports: dict[str, set[str]]) -> None:
    assert len(imports) > 300
    assert circle(imports) is None


def test_a_circle_would_be_found(imports: dict[str, set[str]]) -> None:
    importing, imported = next((module, found) for module, names in imports.items() for found in sorted(names))
    back = {**imports, imported: {*imports[imported], importing}}
    assert circle(back) is not None


def test_folders_and_files_stay_readable() -> None:
    modules = [path for path in SOURCE.rglob("*.py") if path.name != "__init__.py"]
    per_folder = {folder: sum(path.parent == folder for path in modules) for folder in {p.parent for p in modules}}
    assert {folder.name: count for folder, count in per_folder.items() if count > MAX_FILES} == {}
    long = {path.name: lines for path in modules if (lines := len(path.read_text().splitlines())) > MAX_LINES}
    assert long == {}


def test_every_folder_says_what_it_is_for() -> None:
    folders = {path.parent for path in SOURCE.rglob("*.py")}
    silent = [str(f.relative_to(SOURCE)) for f in folders if not (f / "__init__.py").read_text().startswith('"""')]
    assert silent == []
