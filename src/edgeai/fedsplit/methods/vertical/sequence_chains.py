"""Sequences split in time over chains of clients, and a recurrent model that runs segment by segment.

Consecutive clients form chains of `segments` devices. The devices of a chain hold the same samples, each one its
segment of the time steps. Legend: b samples, T steps, states [b, hidden], one per recurrent layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.data.samples import Samples
from edgeai.fedsplit.models.sequences import GruLayer


def split_chains(clients: Sequence[Samples], segments: int) -> list[Samples]:
    """Give each client its time segment of all samples of its chain.

    Args:
        clients: Whole samples of each client.
        segments: Number of devices per chain.

    Raises:
        UsageError: The number of clients is not a multiple of `segments`, or there are too few time steps.
    """
    if len(clients) % segments:
        raise UsageError(
            f"method fedsl: {len(clients)} clients cannot form chains of {segments}",
            hint=f"set num_clients to {len(clients) - len(clients) % segments or segments}, or change method.segments",
        )
    held = []
    for first in range(0, len(clients), segments):
        chain = clients[first : first + segments]
        x, y = torch.cat([part.x for part in chain]), torch.cat([part.y for part in chain])
        held += [Samples(segment, y) for segment in split_time(x, segments)]
    return held


def split_time(x: Tensor, segments: int) -> list[Tensor]:
    """Split x into segments of nearly equal length: rows of images [b, C, H, W], time steps of other data [b, T, ...].

    Raises:
        UsageError: There are fewer steps than segments.
    """
    axis = 2 if x.ndim == 4 else 1
    if x.shape[axis] < segments:
        raise UsageError(
            f"method fedsl: {x.shape[axis]} time steps for {segments} segments", hint="lower method.segments"
        )
    return list(x.tensor_split(segments, axis))


def recurrent_end(layers: nn.Sequential) -> int:
    """Return the position behind the last recurrent layer; all devices of a chain have the layers before it.

    Raises:
        UsageError: The model has no recurrent layer.
    """
    ends = [
        number
        for number, layer in enumerate(layers, 1)
        if any(isinstance(module, GruLayer) for module in layer.modules())
    ]
    if not ends:
        raise UsageError("method fedsl needs a model with recurrent layers", hint="set model.kind=gru")
    return ends[-1]


def run_segment(layers: nn.Sequential, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Run a recurrent model over one time segment.

    Args:
        layers: All layers, or those up to the last recurrent one.
        x: Inputs [b, T, ...] or [b, C, T, ...].
        states: State of each recurrent layer at the start of the segment; empty for zeros.

    Returns:
        Output of the layers, and the states at the end of the segment.
    """
    before, after = iter(states), []
    for layer in _flat(layers):
        if isinstance(layer, GruLayer):
            x = layer(x, next(before, None))
            after.append(x[:, -1])
        else:
            x = layer(x)
    return x, after


class ChainModel(nn.Module):
    """The models of a chain applied one after the other to whole samples.

    Args:
        segments: Layers of each device.
    """

    def __init__(self, segments: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.segments = nn.ModuleList(segments)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the last device."""
        output, states = x, list[Tensor]()
        for layers, part in zip(self.segments, split_time(x, len(self.segments)), strict=True):
            assert isinstance(layers, nn.Sequential)
            output, states = run_segment(layers, part, states)
        return output


def _flat(layers: nn.Sequential) -> Iterator[nn.Module]:
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            yield from _flat(layer)
        else:
            yield layer
