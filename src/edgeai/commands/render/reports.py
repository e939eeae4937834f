"""The report of each verb as blocks: a summary for the terminal and the page, details for the page alone.

Any report is shown from its document and the descriptions of its dataclass. Verbs with pictures or tables of their own
have a module for them in their area.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeai.commands.render.text import print_blocks, print_json
from edgeai.core.report.blocks import Block
from edgeai.core.report.fields import About, descriptions, report_blocks

Document = Mapping[str, Any]
"""A report as plain data."""


@dataclass(frozen=True)
class View:
    """How the report of one verb is shown."""

    record: type
    """The report's dataclass."""
    summary: Callable[[Document], list[Block]] | None = None
    """Tables that say what a run found; None: all fields of the dataclass."""
    details: Callable[[Path, Document], list[Block]] | None = None
    """Pictures and further tables of the page, given the run directory."""
    logged: Mapping[str, About] = field(default_factory=dict)
    """Descriptions of the logged metrics, as `metric_blocks` takes them."""


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
    print_blocks(summary_blocks(verb, document))
    print(f"\nas a page:  edgeai runs report {path}")


def summary_blocks(verb: str, document: Document) -> list[Block]:
    """Return the tables that say what a run found."""
    view = view_of(verb)
    if view and view.summary:
        return view.summary(document)
    return report_blocks(view.record if view else None, document)


def detail_blocks(verb: str, folder: Path, document: Document) -> list[Block]:
    """Return the pictures and further tables of a run's page."""
    view = view_of(verb)
    return view.details(folder, document) if view and view.details else []


def view_of(verb: str) -> View | None:
    """Return how a verb's report is shown; None for a verb without a report."""
    views = {"spec": _spec_view, "collab": _collab_view, "fedsplit": _fedsplit_view}
    area, _, name = verb.partition(" ")
    return views[area](name) if area in views else None


def _spec_view(name: str) -> View | None:
    match name:
        case "train":
            from edgeai.spec.training.train_report import LOGGED, TrainReport

            return View(TrainReport, logged=LOGGED)
        case "generate":
            from edgeai.spec.decoding.generation import GenerateReport

            return View(GenerateReport)
        case "bench":
            from edgeai.spec.evaluation.bench.report import BenchReport
            from edgeai.spec.reports.bench_page import bench_details, bench_summary

            return View(BenchReport, bench_summary, bench_details, descriptions(BenchReport))
        case "compare":
            from edgeai.spec.evaluation.compare.report import CompareReport
            from edgeai.spec.reports.compare_page import compare_details, compare_summary

            return View(CompareReport, compare_summary, compare_details)
        case "diagnose":
            from edgeai.spec.evaluation.diagnose_report import DiagnoseReport, diagnose_summary

            return View(DiagnoseReport, diagnose_summary)
        case "import":
            from edgeai.spec.formats.reports import ImportReport

            return View(ImportReport)
        case "serve":
            from edgeai.spec.serve.reports import ServeReport

            return View(ServeReport)
        case "load":
            from edgeai.spec.serve.reports import LoadReport

            return View(LoadReport)
    return None


def _collab_view(name: str) -> View | None:
    match name:
        case "run":
            from edgeai.collab.reports.run_page import run_details, run_summary
            from edgeai.collab.reports.run_report import LOGGED, RunReport

            return View(RunReport, run_summary, run_details, LOGGED)
        case "compare":
            from edgeai.collab.reports.compare_page import compare_details, compare_summary
            from edgeai.collab.reports.compare_report import CompareReport
            from edgeai.collab.reports.run_report import Cost

            return View(CompareReport, compare_summary, compare_details, descriptions(Cost))
        case "pretrain":
            from edgeai.collab.reports.pretrain_report import LOGGED, PretrainReport

            return View(PretrainReport, logged=LOGGED)
    return None


def _fedsplit_view(name: str) -> View | None:
    match name:
        case "sim":
            from edgeai.fedsplit.reports.run_page import sim_details, sim_summary
            from edgeai.fedsplit.reports.run_report import RoundRow, SimReport

            return View(SimReport, sim_summary, sim_details, descriptions(RoundRow))
        case "compare":
            from edgeai.fedsplit.reports.compare_page import compare_details, compare_summary
            from edgeai.fedsplit.reports.compare_report import CompareReport

            return View(CompareReport, compare_summary, compare_details)
        case "advise":
            from edgeai.fedsplit.reports.advise_page import advise_details, advise_summary
            from edgeai.fedsplit.reports.advise_report import AdviseReport

            return View(AdviseReport, advise_summary, advise_details)
    return None
