"""MkDocs hook: write the reference pages from the code.

The pages exist only while the site is built. `reference/cli/*.md` comes from the Typer application,
`reference/config/*.md` from the pydantic schemas, `reference/api/*.md` from the public names of each area, whose
docstrings mkdocstrings renders.
"""

import html
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from edgeai.cli import app
from edgeai.commands.config import schemas
from edgeai.commands.shared.schema_rows import key_rows
from edgeai.core.config import Config

REPOSITORY = Path(__file__).parents[1]
STORED_PLOTS = {"assets/gto-accept-len.svg": "results/spec/compare.svg"}
AREAS = {
    "spec": "speculative decoding",
    "collab": "edge-cloud collaboration",
    "fedsplit": "federated and split learning",
}


API_NOTES = """Calls print nothing. Progress goes to the callback `on_progress`, notes to the logger `edgeai`. Errors
that the caller can fix are raised as `edgeai.EdgeAIError`; its subclass `edgeai.UsageError` means that the call itself
is wrong."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of the docs folder."""
    root = typer.main.get_command(app)
    assert isinstance(root, click.Group)
    pages = {f"reference/cli/{area}.md": cli_page([area], root.commands[area]) for area in AREAS}
    pages["reference/cli/tools.md"] = tools_page(root)
    pages |= {f"reference/config/{area}.md": config_page(area) for area in AREAS}
    pages |= {f"reference/api/{area}.md": api_page(area) for area in AREAS}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    for path, source in STORED_PLOTS.items():
        files.append(File.generated(config, path, abs_src_path=str(REPOSITORY / source)))
    return files


def cli_page(names: list[str], command: click.Command) -> str:
    """Return the page of one command with all its verbs."""
    lines = [f"# edgeai {' '.join(names)}", "", command.help or "", ""]
    return "\n".join([*lines, *verbs(names, command, level=2)])


def tools_page(root: click.Group) -> str:
    """Return the page of the commands that belong to no area."""
    lines = ["# Other commands", "", "Commands for configs, models and data sets, stored runs and the environment.", ""]
    for name, command in root.commands.items():
        if name not in AREAS:
            lines += verbs([name], command, level=2)
    return "\n".join(lines)


def verbs(names: list[str], command: click.Command, *, level: int) -> Iterator[str]:
    """Yield the lines of every verb below a command, or of the command itself if it is one."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from verbs([*names, name], inner, level=level)
        return
    context = click.Context(command, info_name="edgeai " + " ".join(names))
    yield from [f"{'#' * level} edgeai {' '.join(names)}", "", paragraphs(command.help or ""), ""]
    yield from ["```text", command.get_usage(context).removeprefix("Usage: "), "```", ""]
    rows = [row for parameter in command.params if (row := parameter_row(parameter, context))]
    yield from table(["parameter", "default", "meaning"], rows)
    if command.epilog:
        heading, _, example = command.epilog.partition(": ")
        yield from [f"{heading}:", "", "```bash", example, "```", ""]


def parameter_row(parameter: click.Parameter, context: click.Context) -> list[str] | None:
    """Return the table row of an argument or option; None for a hidden one."""
    if getattr(parameter, "hidden", False):
        return None
    names = ", ".join(map(code, [*parameter.opts, *parameter.secondary_opts]))
    if isinstance(parameter, click.Argument):
        names = code(parameter.make_metavar(context))
    elif not getattr(parameter, "is_flag", False):
        names += " " + code(parameter.make_metavar(context))
    default = parameter.get_default(context, call=False)
    shown = "required" if parameter.required else "" if default in (None, False, (), []) else code(str(default))
    return [names, shown, getattr(parameter, "help", None) or ""]


def config_page(area: str) -> str:
    """Return every config key of an area's verbs, with type, default and meaning."""
    lines = [
        f"# Config keys: {AREAS[area]}",
        "",
        "A config file holds these keys as nested YAML; `-s KEY=VALUE` overrides one of them by its dotted name. "
        "`draft(ngram).key` is a key of one variant of several: the variant that `draft.kind` selects.",
        "",
    ]
    for verb, schema in schemas().items():
        if verb.split()[0] != area:
            continue
        command = f"edgeai config schema {verb}"
        lines += [f"## {verb}", "", f"`{command}` prints this table.", ""]
        rows = [[code(key), code(kind), code(default), about] for key, kind, default, about in rows_of(schema)]
        lines += table(["key", "type", "default", "meaning"], rows)
    return "\n".join(lines)


def api_page(area: str) -> str:
    """Return the page of an area's public names: functions, reports, other types, configs."""
    module = importlib.import_module(f"edgeai.{area}")
    groups: dict[str, list[str]] = {"Functions": [], "Reports": [], "Types": [], "Configs": []}
    for name in module.__all__:
        value = getattr(module, name)
        is_config = inspect.isclass(value) and issubclass(value, Config)
        kind = "Functions" if inspect.isfunction(value) else "Configs" if is_config else "Types"
        groups["Reports" if name.endswith("Report") else kind].append(name)
    groups["Functions"].sort(key=lambda name: inspect.unwrap(getattr(module, name)).__code__.co_firstlineno)
    lines = [f"# edgeai.{area}", "", "```python", f"from edgeai import {area}", "```", "", API_NOTES, ""]
    for group in ("Functions", "Reports", "Types"):
        if groups[group]:
            lines += [f"## {group}", "", *(f"::: edgeai.{area}.{name}\n" for name in groups[group])]
    named = ", ".join(f"`{name}`" for name in groups["Configs"])
    keys = f"[config keys](../config/{area}.md)"
    return "\n".join([*lines, "## Configs", "", f"{named} are pydantic models; their fields are the {keys}.", ""])


def rows_of(schema: Any) -> list[list[str]]:
    """Return the rows of a schema without the fixed verb."""
    return [row for row in key_rows(schema.model_json_schema()) if row[0] != "verb"]


def code(text: str) -> str:
    """Return text as inline code; nothing if there is none."""
    return f"<code>{html.escape(text).replace('|', '&#124;')}</code>" if text else ""


def paragraphs(text: str) -> str:
    """Return a help text with its paragraphs unwrapped."""
    return "\n\n".join(" ".join(part.split()) for part in text.replace("\b", "").split("\n\n"))


def table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Yield a Markdown table."""
    if not rows:
        return
    for row in [head, ["---"] * len(head), *rows]:
        cells = (" ".join(cell.split()).replace("|", "\\|") for cell in row)
        yield f"| {' | '.join(cells)} |"
    yield ""
