"""Edge-cloud collaboration: a small vision model at the edge is updated from a large one in the cloud as scenes drift.

Examples:
    >>> from edgeai import collab
    >>> report = collab.run("collab/smoke", overrides={"strategy": "laecips"})
    >>> print(report.evaluation.total.upload_rate)
"""

from typing import TYPE_CHECKING

from edgeai.core.python_api.lazy_names import lazy_names

if TYPE_CHECKING:
    from edgeai.collab.api import compare, load_edge_model, open_stream, run
    from edgeai.collab.config.run import CollabCompareConfig, CollabRunConfig
    from edgeai.collab.models.seg_model import SegModel
    from edgeai.collab.reports.compare_report import CompareReport
    from edgeai.collab.reports.run_report import RunReport
    from edgeai.collab.streams.stream import Frame, Stream
else:
    __getattr__, __dir__ = lazy_names(__name__, __file__)

__all__ = [
    "CollabCompareConfig",
    "CollabRunConfig",
    "CompareReport",
    "Frame",
    "RunReport",
    "SegModel",
    "Stream",
    "compare",
    "load_edge_model",
    "open_stream",
    "run",
]
