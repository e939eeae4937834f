"""Sequences that are cut in time: who holds which part of whose samples, and a recurrent model that runs part by part.

Clients in a row form chains of `segments` devices; the devices of a chain hold the same samples, each one its stretch
of the time steps. Legend: b samples, T steps, states [b, hidden], one for each recurrent layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.data.samples import Samples
from edgeai.fedsplit.models.sequences import GruLayer


def split_chains(clients: Sequence[Samples], segments: int) -> list[Samples]:
    """Turns what each client would hold into what it holds in a chain: a stretch of all the chain's samples.

    Args:
        clients: Whole samples.
        segments: Devices of a chain.

    Raises:
        UsageError: A chain would be short of clients, or a client of time steps.
    """
    if len(clients) % segments:
        raise UsageError(
            f"method fedsl: {len(clients)} clients make no whole chains of {segments}",
            hint=f"set num_clients to {len(clients) - len(clients) % segments or segments}, or change method.segments",
        )
    dealt = []
    for first in range(0, len(clients), segments):
        chain = clients[first : first + segments]
        x, y = torch.cat([part.x for part in chain]), torch.cat([part.y for part in chain])
        dealt += [Samples(stretch, y) for stretch in cut_in_time(x, segments)]
    return dealt


def cut_in_time(x: Tensor, segments: int) -> list[Tensor]:
    """Stretches of x, as equal as can be: of pictures [b, C, H, W] rows, of everything else [b, T, ...] steps.

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
    """The place behind the last recurrent layer: what all devices of a chain have.

    Raises:
        UsageError: There is none.
    """
    ends = [
        number
        for number, layer in enumerate(layers, 1)
        if any(isinstance(module, GruLayer) for module in layer.modules())
    ]
    if not ends:
        raise UsageError("method fedsl needs a model with recurrent layers", hint="set model.kind=gru")
    return ends[-1]


def run_stretch(layers: nn.Sequential, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Runs a recurrent model over a stretch of time.

    Args:
        layers: All of them, or those up to the last recurrent one.
        x: [b, T, ...] or [b, C, T, ...].
        states: At the begin of the stretch, of each recurrent layer; empty for zeros.

    Returns:
        What the layers give, and the states at the end of the stretch.
    """
    before, after = iter(states), []
    for layer in _flat(layers):
        if isinstance(layer, GruLayer):
            x = layer(x, next(before, None))
            after.append(x[:, -1])
        else:
            x = layer(x)
    return x, after


class InTime(nn.Module):
    """The devices of a chain one after the other, on whole samples.

    Args:
        stretches: The layers of each.
    """

    def __init__(self, stretches: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.stretches = nn.ModuleList(stretches)

    def forward(self, x: Tensor) -> Tensor:
        """What the last one gives."""
        output, states = x, list[Tensor]()
        for layers, part in zip(self.stretches, cut_in_time(x, len(self.stretches)), strict=True):
            assert isinstance(layers, nn.Sequential)
            output, states = run_stretch(layers, part, states)
        return output


def _flat(layers: nn.Sequential) -> Iterator[nn.Module]:
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            yield from _flat(layer)
        else:
            yield layer
