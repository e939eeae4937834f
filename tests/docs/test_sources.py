"""The modules that the table of sources names exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "edgeai"
PATH = re.compile(r"`((?:core|spec|collab|fedsplit|federated|split|hybrid|vertical)/[a-z0-9_/]*(?:\.py|/))`")


def test_every_module_in_the_table_of_sources_exists() -> None:
    named = PATH.findall((ROOT / "docs" / "concepts" / "sources.md").read_text(encoding="utf-8"))
    assert len(named) > 50
    bases = (SOURCES, SOURCES / "fedsplit" / "methods")
    assert [name for name in named if not any((base / name).exists() for base in bases)] == []
