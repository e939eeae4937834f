"""`edgeai config`: list, print and check configs, and describe their keys."""

from pathlib import Path
from typing import Annotated, Any

import typer

from edgeai.commands.render.text import print_json, print_table
from edgeai.commands.shared.app import new_app
from edgeai.commands.shared.options import JsonOption, SetOption
from edgeai.commands.shared.schema_rows import key_rows
from edgeai.core.config import Config, dump_config, find_config, load_config, read_tree, shipped_configs
from edgeai.core.config.problems import nearest
from edgeai.core.errors import UsageError

app = new_app("List, print and check configs, and describe their keys.")

SourceArgument = Annotated[str, typer.Argument(metavar="FILE|NAME", help="YAML file or name of a shipped config.")]


@app.command("list", epilog="Example: edgeai config list")
def list_configs(as_json: JsonOption = False) -> None:
    """List the shipped configs."""
    rows = [
        {"name": name, "verb": read_tree(path)[0].get("verb"), "about": _first_comment(path)}
        for name, path in shipped_configs().items()
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(["name", "verb", "first line"], [list(row.values()) for row in rows])


@app.command(epilog="Example: edgeai config show spec/smollm2 -s optim.lr=3e-4")
def show(source: SourceArgument, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Print a complete config: file, overrides and defaults."""
    cfg = load_config(_schema_for(source), source, overrides or ())
    if as_json:
        print_json(cfg.model_dump(mode="json"))
    else:
        print(dump_config(cfg), end="")


@app.command(epilog="Example: edgeai config check my.yaml spec/smollm2")
def check(
    sources: Annotated[list[str], typer.Argument(metavar="FILE|NAME...", help="YAML files or shipped names.")],
    as_json: JsonOption = False,
) -> None:
    """Validate configs; exit 1 if one is invalid."""
    rows: list[dict[str, Any]] = []
    for source in sources:
        try:
            schema = _schema_for(source)
            cfg = load_config(schema, source)
            rows.append({"config": source, "verb": cfg.model_dump()["verb"], "problems": []})
        except UsageError as error:
            lines = [line.strip() for line in error.message.splitlines()]
            rows.append({"config": source, "verb": None, "problems": lines[1:] or lines})
    if as_json:
        print_json(rows)
    for row in [] if as_json else rows:
        print("\n".join(row["problems"]) or f"{row['config']}: valid, for edgeai {row['verb']}")
    if any(row["problems"] for row in rows):
        raise typer.Exit(1)


@app.command(epilog="Example: edgeai config schema spec train")
def schema(
    verb: Annotated[list[str], typer.Argument(metavar="AREA VERB", help="Area and verb, such as spec train.")],
    as_json: JsonOption = False,
) -> None:
    """Print every config key of a verb with type, default and meaning (--json: JSON schema)."""
    found = _schema_of(" ".join(verb))
    if as_json:
        print_json(found.model_json_schema())
    else:
        print_table(["key", "type", "default", "meaning"], key_rows(found.model_json_schema()))


def schemas() -> dict[str, type[Config]]:
    """Return the schema of every verb that takes a config."""
    from edgeai.collab.config.pretrain import PretrainConfig
    from edgeai.collab.config.run import CollabCompareConfig, CollabRunConfig
    from edgeai.fedsplit.config import run as fedsplit
    from edgeai.fedsplit.config.advise import AdviseConfig
    from edgeai.spec.config.bench import BenchConfig
    from edgeai.spec.config.chat import ChatConfig
    from edgeai.spec.config.compare import CompareConfig
    from edgeai.spec.config.diagnose import DiagnoseConfig
    from edgeai.spec.config.export import ExportConfig, ImportConfig
    from edgeai.spec.config.generate import GenerateConfig
    from edgeai.spec.config.load import LoadConfig
    from edgeai.spec.config.serve import ServeConfig
    from edgeai.spec.config.train import TrainConfig

    return {
        "spec train": TrainConfig,
        "spec compare": CompareConfig,
        "spec generate": GenerateConfig,
        "spec bench": BenchConfig,
        "spec diagnose": DiagnoseConfig,
        "spec export": ExportConfig,
        "spec import": ImportConfig,
        "spec serve": ServeConfig,
        "spec chat": ChatConfig,
        "spec load": LoadConfig,
        "collab run": CollabRunConfig,
        "collab compare": CollabCompareConfig,
        "collab pretrain": PretrainConfig,
        "fedsplit sim": fedsplit.SimConfig,
        "fedsplit compare": fedsplit.CompareConfig,
        "fedsplit advise": AdviseConfig,
    }


def _schema_for(source: str) -> type[Config]:
    """Return the schema for the `verb` key of a config."""
    path = find_config(source)
    verb = read_tree(path)[0].get("verb")
    if verb is None:
        raise UsageError(f"{path}: verb: the key is required", hint=f"one of: {', '.join(schemas())}")
    return _schema_of(str(verb), where=f"{path}: ")


def _schema_of(verb: str, *, where: str = "") -> type[Config]:
    known = schemas()
    if verb not in known:
        near = nearest(verb, known)
        hint = f'did you mean "{near}"?' if near else f"one of: {', '.join(known)}"
        raise UsageError(f'{where}no verb "{verb}" takes a config', hint=hint)
    return known[verb]


def _first_comment(path: Path) -> str:
    """Return the comment on the first line, by convention the command that runs the config."""
    with path.open(encoding="utf-8") as stream:
        line = stream.readline().strip()
    return line.removeprefix("#").strip() if line.startswith("#") else ""
