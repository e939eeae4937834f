"""How the reports of `edgeai spec` are shown."""

from edgeai.core.report.fields import descriptions
from edgeai.core.report.view import View
from edgeai.spec.decoding.generation import GenerateReport
from edgeai.spec.evaluation.bench.report import BenchReport
from edgeai.spec.evaluation.compare.report import CompareReport
from edgeai.spec.evaluation.diagnose_report import DiagnoseReport, diagnose_summary
from edgeai.spec.formats.reports import ImportReport
from edgeai.spec.reports.bench_page import bench_details, bench_summary
from edgeai.spec.reports.compare_page import compare_details, compare_summary
from edgeai.spec.serve.reports import LoadReport, ServeReport
from edgeai.spec.training.train_report import LOGGED, TrainReport

VIEWS = {
    "train": View(TrainReport, logged=LOGGED),
    "generate": View(GenerateReport),
    "bench": View(BenchReport, bench_summary, bench_details, descriptions(BenchReport)),
    "compare": View(CompareReport, compare_summary, compare_details),
    "diagnose": View(DiagnoseReport, diagnose_summary),
    "import": View(ImportReport),
    "serve": View(ServeReport),
    "load": View(LoadReport),
}
"""View by verb."""
