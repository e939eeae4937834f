"""The files of a Flower app: the one that runs are submitted as, and the one that a person takes along."""

from __future__ import annotations

from pathlib import Path

from edgeai.core.files import write_whole

_PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "1.0.0"
description = "{description}"
license = "Apache-2.0"
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "edgeai"

[tool.flwr.app.components]
serverapp = "{package}.server_app:app"
clientapp = "{package}.client_app:app"

[tool.flwr.app.config]
{config}
"""


def write_app(folder: Path, name: str, description: str, config: dict[str, str], files: dict[str, str]) -> None:
    """Writes an app.

    Args:
        folder: Where to.
        name: Of the project; the package has underscores in place of dashes.
        description: Of the project.
        config: Keys of the run config, with their values in TOML.
        files: Of the package, by name; `__init__.py` is made.
    """
    package = name.replace("-", "_")
    (folder / package).mkdir(parents=True, exist_ok=True)
    lines = "\n".join(f"{key} = {value}" for key, value in config.items())
    text = _PROJECT.format(name=name, package=package, description=description, config=lines)
    write_whole(folder / "pyproject.toml", text)
    for file, content in {"__init__.py": f'"""{description}"""\n', **files}.items():
        write_whole(folder / package / file, content)


def write_runner(folder: Path) -> None:
    """The app behind `backend: flower`: run directories in, reports out."""
    write_app(
        folder,
        "edgeai-runner",
        "Plays a run of edgeai fedsplit",
        {"run-dirs": '""', "resume": "false", "owner": "0", "answer": '""', "cwd": '"."'},
        {
            "server_app.py": "from edgeai.fedsplit.flower.server_app import app\n\n__all__ = ['app']\n",
            "client_app.py": "from edgeai.fedsplit.flower.client_app import app\n\n__all__ = ['app']\n",
        },
    )
