"""Federated learning, split learning and their combinations, with accuracy, traffic, time, energy and leakage measured.

Examples:
    >>> from edgeai import fedsplit
    >>> report = fedsplit.simulate("fedsplit/smoke")
    >>> print([row.accuracy for row in report.rounds])
"""

from typing import TYPE_CHECKING

from edgeai.core.python_api.lazy_names import lazy_names

if TYPE_CHECKING:
    from edgeai.fedsplit.api import compare, describe_partition, recommend, simulate, verify
    from edgeai.fedsplit.config.advise import AdviseConfig
    from edgeai.fedsplit.config.run import CompareConfig, SimConfig
    from edgeai.fedsplit.reports.advise_report import AdviseReport
    from edgeai.fedsplit.reports.compare_report import CompareReport
    from edgeai.fedsplit.reports.partition_report import PartitionReport
    from edgeai.fedsplit.reports.run_report import SimReport
    from edgeai.fedsplit.sim.verify import VerifyReport
else:
    __getattr__, __dir__ = lazy_names(__name__, __file__)

__all__ = [
    "AdviseConfig",
    "AdviseReport",
    "CompareConfig",
    "CompareReport",
    "PartitionReport",
    "SimConfig",
    "SimReport",
    "VerifyReport",
    "compare",
    "describe_partition",
    "recommend",
    "simulate",
    "verify",
]
