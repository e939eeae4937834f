"""The packages that each extra of the distribution needs, and errors that name a missing one.

`python -m edgeai.core.requirements spec serve` prints the requirements of these extras for `pip install -r`. It needs
nothing but the standard library, so that it runs after `pip install --no-deps edgeai`.
"""

import importlib.metadata
import re
import sys
from collections.abc import Sequence

from edgeai.core.errors import EdgeAIError, UsageError

EXTRAS = ("core", "spec", "serve", "collab", "fedsplit", "flower", "ray", "vision", "llamacpp", "structured")
_EXTRA_OF_ROOM = {
    "edgeai.spec.serve": "serve",
    "edgeai.spec": "spec",
    "edgeai.collab": "collab",
    "edgeai.fedsplit.flower": "flower",
    "edgeai.fedsplit": "fedsplit",
}
"""The most specific room first."""
_DISTRIBUTION_OF = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "grpc": "grpcio",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Distributions whose import name is another one."""


def requirements(extra: str) -> tuple[str, ...]:
    """Return the requirements of an extra, such as "torch>=2.9", sorted by name.

    Raises:
        PackageNotFoundError: edgeai is not installed, but run from its source folder.
    """
    found = []
    for line in importlib.metadata.requires("edgeai") or ():
        requirement, _, marker = line.partition(";")
        if re.fullmatch(rf"""\s*extra == ['"]{extra}['"]\s*""", marker):
            found.append(requirement.strip())
    return tuple(sorted(found))


def missing(extra: str) -> tuple[str, ...]:
    """Return the distributions of an extra that are not installed."""
    return tuple(name for name in dict.fromkeys(map(name_of, requirements(extra))) if not _is_installed(name))


def missing_package_error(error: ModuleNotFoundError) -> EdgeAIError | None:
    """Return the error to show instead of a failed import; None if no extra of edgeai provides the package.

    Args:
        error: The failed import, with its traceback: the importing room decides between several extras.
    """
    module = error.name or ""
    distribution = _DISTRIBUTION_OF.get(module, module.replace("_", "-"))
    try:
        extras = [extra for extra in EXTRAS if distribution in map(name_of, requirements(extra))]
    except importlib.metadata.PackageNotFoundError:
        return None
    if not extras:
        return None
    extra = _extra_of(error)
    extra = extra if extra in extras else extras[0]
    absent = missing(extra) or (distribution,)
    which = "which is" if len(absent) == 1 else "which are"
    return EdgeAIError(f"{extra} needs {', '.join(absent)}, {which} not installed", hint=install_command(extra))


def install_command(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'edgeai[{extra}]'"


def _extra_of(error: ModuleNotFoundError) -> str | None:
    """Return the extra of the innermost edgeai module in the traceback."""
    innermost, frame = "", error.__traceback__
    while frame is not None:
        name = str(frame.tb_frame.f_globals.get("__name__", ""))
        innermost = name if name.startswith("edgeai.") else innermost
        frame = frame.tb_next
    return next((extra for room, extra in _EXTRA_OF_ROOM.items() if f"{innermost}.".startswith(f"{room}.")), None)


def name_of(requirement: str) -> str:
    """Return the distribution's name, without extras and version."""
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _main(extras: Sequence[str]) -> None:
    unknown = [extra for extra in extras if extra not in EXTRAS]
    if unknown or not extras:
        what = f"no extra {unknown[0]}" if unknown else "no extra given"
        raise UsageError(f"{what}: choose from {', '.join(EXTRAS)}")
    for requirement in sorted({line for extra in extras for line in requirements(extra)}):
        print(requirement)


if __name__ == "__main__":
    try:
        _main(sys.argv[1:])
    except UsageError as error:
        sys.exit(f"edgeai: {error}")
