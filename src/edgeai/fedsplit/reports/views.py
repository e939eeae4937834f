"""How the reports of `edgeai fedsplit` are shown."""

from edgeai.core.report.fields import descriptions
from edgeai.core.report.view import View
from edgeai.fedsplit.reports.advise_page import advise_details, advise_summary
from edgeai.fedsplit.reports.advise_report import AdviseReport
from edgeai.fedsplit.reports.compare_page import compare_details, compare_summary
from edgeai.fedsplit.reports.compare_report import CompareReport
from edgeai.fedsplit.reports.run_page import sim_details, sim_summary
from edgeai.fedsplit.reports.run_report import RoundRow, SimReport

VIEWS = {
    "sim": View(SimReport, sim_summary, sim_details, descriptions(RoundRow)),
    "compare": View(CompareReport, compare_summary, compare_details),
    "advise": View(AdviseReport, advise_summary, advise_details),
}
"""View by verb."""
