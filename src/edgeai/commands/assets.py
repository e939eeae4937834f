"""`edgeai assets`: list, fetch and locate models and data."""

from typing import Annotated

import typer

from edgeai.commands.render.text import print_json, print_table
from edgeai.commands.shared.app import new_app
from edgeai.commands.shared.options import JsonOption, QuietOption
from edgeai.commands.shared.progress import listening
from edgeai.core import assets
from edgeai.core.errors import EdgeAIError
from edgeai.core.metrics import Metrics
from edgeai.core.units import amount

app = new_app("List, fetch and locate models and data.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of an asset, or ORG/NAME on Hugging Face.")]


@app.command("list", epilog="Example: edgeai assets list")
def list_assets(as_json: JsonOption = False) -> None:
    """List known assets and whether they are cached."""
    known = [(asset, assets.where(asset.name)) for asset in assets.ASSETS.values()]
    if as_json:
        print_json(
            [
                {
                    "name": asset.name,
                    "size_bytes": asset.size_bytes,
                    "licence": asset.licence,
                    "description": asset.description,
                    "path": path,
                }
                for asset, path in known
            ]
        )
        return
    rows = [
        [asset.name, amount(asset.size_bytes or 0, "B"), asset.licence, "yes" if path else "no", asset.description]
        for asset, path in known
    ]
    print_table(["name", "size", "licence", "cached", "description"], rows)


@app.command(epilog="Example: edgeai assets fetch smollm2-135m-instruct")
def fetch(name: NameArgument, as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Download an asset into the cache, verify its SHA-256, and print its path."""
    with listening(quiet=quiet) as listener:
        path = assets.fetch(name, Metrics(None, listener=listener))
    print_json({"name": name, "path": path}) if as_json else print(path)


@app.command(epilog="Example: edgeai assets where smollm2-135m-instruct")
def where(name: NameArgument, as_json: JsonOption = False) -> None:
    """Print the path of a cached asset; exit 1 if it is not cached."""
    path = assets.where(name)
    if path is None:
        raise EdgeAIError(f"{name} is not in the cache", hint=f"edgeai assets fetch {name}")
    print_json({"name": name, "path": path}) if as_json else print(path)
