"""From a model's classes to the stream's.

Shapes: B images, M model classes, C stream classes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from edgeai.core.errors import UsageError

MISSING = 10.0
"""Logits of a stream class that the model does not know lie this far below the pixel's lowest one."""


class ClassMap:
    """Adds up, for each stream class, the probabilities of the model classes that stand for it.

    Args:
        sources: For each stream class the model outputs it takes; none: the model never answers it.
        num_outputs: M.
    """

    def __init__(self, sources: Sequence[Sequence[int]], num_outputs: int) -> None:
        self.sources = tuple(tuple(outputs) for outputs in sources)
        self.is_identity = self.sources == tuple((i,) for i in range(num_outputs))

    def logits(self, raw: Tensor) -> Tensor:
        """Stream logits [B,C,H,W] of model logits [B,M,H,W].

        A softmax over the result is the model's softmax over the outputs in use, added up by stream class.
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
    """Match a model's outputs with the stream's classes, by `mapping` and else by name.

    Args:
        model_classes: Names of the outputs in order; empty if they are the stream's own classes.
        num_outputs: Outputs that the model really has.
        stream_classes: The stream's classes.
        mapping: Model class to stream class, or to None to leave it out.
        where: The model, for messages.

    Raises:
        UsageError: Counts differ, a name is unknown, or an output has no stream class.
    """
    names = list(model_classes) or list(stream_classes)
    known = ", ".join(stream_classes)
    if len(names) != num_outputs:
        whose = "its config names" if model_classes else "the stream has"
        raise UsageError(
            f"{where} gives {num_outputs} classes, but {whose} {len(names)}: {', '.join(names)}",
            hint="name the model's outputs in order in `classes`, and map them with `class_map` if they differ",
        )
    unknown = [name for name in mapping if name not in names]
    if unknown:
        raise UsageError(
            f'class_map names "{unknown[0]}", which is no class of {where}', hint=f"it has: {', '.join(names)}"
        )
    sources: dict[str, list[int]] = {name: [] for name in stream_classes}
    for index, name in enumerate(names):
        target = mapping.get(name, name)
        if target is None:
            continue
        if target not in sources:
            raise UsageError(
                f'class "{name}" of {where} has no class "{target}" in the stream',
                hint=f"map it with class_map to one of {known}; null leaves it out",
            )
        sources[target].append(index)
    if not any(sources.values()):
        raise UsageError(f"class_map leaves no class of {where}", hint=f"map some to {known}")
    return ClassMap([sources[name] for name in stream_classes], num_outputs)
