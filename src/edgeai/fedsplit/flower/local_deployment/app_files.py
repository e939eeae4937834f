"""The files of a Flower app, for submitted runs and for exported apps."""

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
    """Write a Flower app.

    Args:
        folder: Target folder.
        name: Project name; the package name has underscores instead of dashes.
        description: Project description.
        config: Default run config: keys and their values in TOML.
        files: Contents of the package's files by name; `__init__.py` is added.
    """
    package = name.replace("-", "_")
    (folder / package).mkdir(parents=True, exist_ok=True)
    lines = "\n".join(f"{key} = {value}" for key, value in config.items())
    text = _PROJECT.format(name=name, package=package, description=description, config=lines)
    write_whole(folder / "pyproject.toml", text)
    for file, content in {"__init__.py": f'"""{description}"""\n', **files}.items():
        write_whole(folder / package / file, content)


def write_runner(folder: Path) -> None:
    """Write the app behind `backend: flower`, which executes run directories."""
    write_app(
        folder,
        "edgeai-runner",
        "Executes runs of edgeai fedsplit",
        {"run-dirs": '""', "resume": "false", "owner": "0", "answer": '""', "cwd": '"."'},
        {
            "server_app.py": "from edgeai.fedsplit.flower.server_app import app\n\n__all__ = ['app']\n",
            "client_app.py": "from edgeai.fedsplit.flower.client_app import app\n\n__all__ = ['app']\n",
        },
    )
