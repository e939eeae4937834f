"""The report of a run on stdout, and how the report of each verb is shown."""

from pathlib import Path

from edgeai.commands.render.text import print_blocks, print_json
from edgeai.core.report.view import Document, View


def show_report(verb: str, path: Path, document: Document, *, as_json: bool) -> None:
    """Print what a run found.

    Args:
        verb: Verb of the run, such as "spec train".
        path: Run directory.
        document: The report as plain data.
        as_json: Whether to print one JSON document.
    """
    if as_json:
        print_json({"run": path, **document})
        return
    print_blocks(view_of(verb).tables(document))
    print(f"\nas a page:  edgeai runs report {path}")


def view_of(verb: str) -> View:
    """Return how a verb's report is shown; a view without descriptions for an unknown verb."""
    area, _, name = verb.partition(" ")
    match area:
        case "spec":
            from edgeai.spec.reports.views import VIEWS
        case "collab":
            from edgeai.collab.reports.views import VIEWS
        case "fedsplit":
            from edgeai.fedsplit.reports.views import VIEWS
        case _:
            return View()
    return VIEWS.get(name, View())
