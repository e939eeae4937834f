"""Runs edgeai's command line as if only the packages of one extra were installed.

    python hide.py EXTRA [edgeai arguments]

The extras are read from pyproject.toml. Every installed distribution that they do not lead to is hidden from imports
and from metadata.
"""

import importlib.metadata
import re
import sys
import tomllib
from importlib.machinery import PathFinder
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
EXTRAS = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]


def expand(extra):
    """The requirements of an extra, with references to other extras replaced by these."""
    for line in EXTRAS[extra]:
        nested = re.fullmatch(r"edgeai\[(.*)\]", line)
        if nested:
            for name in nested[1].split(","):
                yield from expand(name)
        else:
            yield line


def closure(lines):
    """Names of the distributions that the requirements lead to."""
    found, waiting = set(), [(Requirement(line), "") for line in lines]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in {"", *requirement.extras}:
            key = (canonicalize_name(requirement.name), wanted)
            if key in found:
                continue
            found.add(key)
            try:
                needs = importlib.metadata.requires(requirement.name) or ()
            except importlib.metadata.PackageNotFoundError:
                continue
            waiting += [(Requirement(line), wanted) for line in needs]
    return {name for name, _ in found}


def hide(extra):
    kept = closure(expand(extra)) | {"edgeai", "pip"}
    visible, hidden = set(), set()
    for module, owners in importlib.metadata.packages_distributions().items():
        (visible if any(canonicalize_name(owner) in kept for owner in owners) else hidden).add(module)
    lines = [f"{line}; extra == '{name}'" for name in EXTRAS for line in expand(name)]

    class Lean(PathFinder):
        @classmethod
        def find_spec(cls, fullname, path=None, target=None):
            if fullname.partition(".")[0] in hidden - visible:
                return None
            return super().find_spec(fullname, path, target)

        @classmethod
        def find_distributions(cls, *context):
            for found in PathFinder.find_distributions(*context):
                if canonicalize_name(found.metadata["Name"]) in kept:
                    yield found

    sys.meta_path[:] = [Lean if finder is PathFinder else finder for finder in sys.meta_path]
    importlib.metadata.requires = lambda name: lines


if __name__ == "__main__":
    hide(sys.argv[1])
    from edgeai.cli import main

    sys.exit(main(sys.argv[2:]))
