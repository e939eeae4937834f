"""The generated reference lists every command with its options, and every config key."""

import importlib.util
from pathlib import Path
from types import ModuleType

import click
import pytest
import typer

from edgeai.cli import app
from edgeai.commands.config import schemas

ROOT = Path(__file__).parents[2]
pytest.importorskip("mkdocs")


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "_generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_has_a_section_with_all_its_options(generator: ModuleType) -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, click.Group)
    pages = [generator.cli_page([area], root.commands[area]) for area in generator.AREAS]
    text = "\n".join([*pages, generator.tools_page(root)])
    for name, group in root.commands.items():
        verbs = group.commands if isinstance(group, click.Group) else {"": group}
        for verb, command in verbs.items():
            heading = f"## edgeai {name} {verb}".strip()
            section = text.split(f"\n{heading}\n")[1].split("\n## ")[0]
            for parameter in command.params:
                if isinstance(parameter, click.Option) and not parameter.hidden:
                    assert f"<code>{parameter.opts[0]}</code>" in section, (heading, parameter.opts)


@pytest.mark.parametrize("verb", schemas())
def test_every_config_key_has_a_row(generator: ModuleType, verb: str) -> None:
    page = generator.config_page(verb.split()[0])
    section = page.split(f"\n## {verb}\n")[1].split("\n## ")[0]
    for key in schemas()[verb].model_fields:
        assert key == "verb" or f"| <code>{key}</code> |" in section
