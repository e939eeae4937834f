"""Speculative decoding: train a draft head for a frozen language model and decode faster without changing its output.

Examples:
    >>> from edgeai import spec
    >>> target = spec.load_target("smollm2-135m-instruct")
    >>> report = spec.generate(target, ["Why is the sky blue?"], max_tokens=64)
    >>> print(report.answers[0].text)
"""

from typing import TYPE_CHECKING

from edgeai.core.python_api.lazy_names import lazy_names

if TYPE_CHECKING:
    from edgeai.spec.api import bench, generate, load_head, load_target, train
    from edgeai.spec.config.bench import BenchConfig
    from edgeai.spec.config.draft import Eagle3Draft, NgramDraft, NoDraft, TreeConfig
    from edgeai.spec.config.generate import GenerateConfig
    from edgeai.spec.config.sampling import SamplingConfig
    from edgeai.spec.config.target import TargetConfig
    from edgeai.spec.config.train import TrainConfig
    from edgeai.spec.decoding.generation import GenerateReport, Generation
    from edgeai.spec.draft.drafter import Drafter
    from edgeai.spec.evaluation.bench.report import BenchReport
    from edgeai.spec.target.protocol import Target
    from edgeai.spec.training.train_report import TrainReport
else:
    __getattr__, __dir__ = lazy_names(__name__, __file__)

__all__ = [
    "BenchConfig",
    "BenchReport",
    "Drafter",
    "Eagle3Draft",
    "GenerateConfig",
    "GenerateReport",
    "Generation",
    "NgramDraft",
    "NoDraft",
    "SamplingConfig",
    "Target",
    "TargetConfig",
    "TrainConfig",
    "TrainReport",
    "TreeConfig",
    "bench",
    "generate",
    "load_head",
    "load_target",
    "train",
]
