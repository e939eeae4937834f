"""How the reports of `edgeai collab` are shown."""

from edgeai.collab.reports.compare_page import compare_details, compare_summary
from edgeai.collab.reports.compare_report import CompareReport
from edgeai.collab.reports.pretrain_report import LOGGED as PRETRAIN_LOGGED
from edgeai.collab.reports.pretrain_report import PretrainReport
from edgeai.collab.reports.run_page import run_details, run_summary
from edgeai.collab.reports.run_report import LOGGED, Cost, RunReport
from edgeai.core.report.fields import descriptions
from edgeai.core.report.view import View

VIEWS = {
    "run": View(RunReport, run_summary, run_details, LOGGED),
    "compare": View(CompareReport, compare_summary, compare_details, descriptions(Cost)),
    "pretrain": View(PretrainReport, logged=PRETRAIN_LOGGED),
}
"""View by verb."""
