"""Mapping from a model's classes to the stream's classes.

Shapes: B images, M model classes, C stream classes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from edgeai.core.errors import UsageError

MISSING = 10.0
"""Distance from a pixel's lowest logit to the logit of a stream class that the model does not know."""


class ClassMap:
    """Sums the probabilities of the model classes that are mapped to each stream class.

    Args:
        sources: Model outputs of each stream class; a class without outputs is never predicted.
        num_outputs: Number of model classes M.
    """

    def __init__(self, sources: Sequence[Sequence[int]], num_outputs: int) -> None:
        self.sources = tuple(tuple(outputs) for outputs in sources)
        self.is_identity = self.sources == tuple((i,) for i in range(num_outputs))

    def logits(self, raw: Tensor) -> Tensor:
        """Convert model logits [B,M,H,W] to stream logits [B,C,H,W].

        A softmax over the result equals the model's softmax over the used outputs, summed by stream class.
        """
        if self.is_identity:
            return raw
        columns: list[Tensor | None] = []
        for outputs in self.sources:
            column = raw[:, list(outputs)]
            columns.append(None if not outputs else column[:, 0] if len(outputs) == 1 else column.logsumexp(1))
        known = torch.stack([column for column in columns if column is not None], dim=1)
        if known.shape[1] == len(columns):
            return known
        lowest = known.amin(1) - MISSING
        return torch.stack([lowest if column is None else column for column in columns], dim=1)


def build_class_map(
    model_classes: Sequence[str],
    num_outputs: int,
    stream_classes: Sequence[str],
    mapping: Mapping[str, str | None],
    *,
    where: str,
) -> ClassMap:
    """Match a model's outputs with the stream's classes, by `mapping` or by name.

    Args:
        model_classes: Names of the outputs in order; empty if they are the stream's classes.
        num_outputs: Actual number of outputs.
        stream_classes: Classes of the stream.
        mapping: Model class to stream class, or to None to ignore the class.
        where: Name of the model in error messages.

    Raises:
        UsageError: The numbers of classes differ, a name is unknown, or an output has no stream class.
    """
    names = list(model_classes) or list(stream_classes)
    known = ", ".join(stream_classes)
    if len(names) != num_outputs:
        whose = "its config names" if model_classes else "the stream has"
        raise UsageError(
            f"{where} has {num_outputs} output classes, but {whose} {len(names)}: {', '.join(names)}",
            hint="name the model's outputs in order in `classes`, and map them with `class_map` if they differ",
        )
    unknown = [name for name in mapping if name not in names]
    if unknown:
        raise UsageError(
            f'class_map names "{unknown[0]}", which is not a class of {where}', hint=f"it has: {', '.join(names)}"
        )
    sources: dict[str, list[int]] = {name: [] for name in stream_classes}
    for index, name in enumerate(names):
        target = mapping.get(name, name)
        if target is None:
            continue
        if target not in sources:
            raise UsageError(
                f'class "{name}" of {where} has no class "{target}" in the stream',
                hint=f"map it with class_map to one of {known}; null ignores it",
            )
        sources[target].append(index)
    if not any(sources.values()):
        raise UsageError(f"class_map ignores all classes of {where}", hint=f"map some to {known}")
    return ClassMap([sources[name] for name in stream_classes], num_outputs)
