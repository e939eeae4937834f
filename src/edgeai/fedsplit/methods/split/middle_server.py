"""A middle server: a stretch of the model without data and labels.

Legend: u [b, ...] input, v [b, ...] output of the stretch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.cuts import Cut
from edgeai.fedsplit.config.optim import OptimConfig
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.protocol.part import build_optimizer, training_bytes


class PassFlops(NamedTuple):
    """FLOPs of a forward and of a backward pass."""

    forward: float
    backward: float


class Stretch:
    """Layers between two positions of a model, with their own optimizer.

    Args:
        model: Whole model; its weights are shared, not copied.
        start: Position of the shallowest input.
        stop: Position of the output.
        optim: Optimizer of these layers.
    """

    def __init__(self, model: SplitModel, start: int, stop: int, optim: OptimConfig) -> None:
        self._model, self._start, self._stop, self._optim_cfg = model, start, stop, optim
        self._optim = build_optimizer(model.part(start, stop).parameters(), optim)
        self._input: Tensor | None = None
        self._output: Tensor | None = None

    def forward(self, u: Tensor, start: int | None = None) -> Tensor:
        """Return v without its autograd graph, and keep the graph for `backward`.

        Args:
            u: Input.
            start: Position of the input; by default before all layers of the stretch.
        """
        self._input = u.detach().requires_grad_()
        self._output = self._model.part(self._start if start is None else start, self._stop)(self._input)
        return self._output.detach()

    def backward(self, gradient: Tensor) -> Tensor:
        """Return the gradient at u for a gradient at v, and take an optimizer step."""
        assert self._input is not None, "a gradient was received before any batch"
        assert self._output is not None
        self._optim.zero_grad()
        self._output.backward(gradient)
        self._optim.step()
        found = self._input.grad
        assert found is not None
        self._input = self._output = None
        return found

    def flops(self, num_samples: int, start: int | None = None) -> PassFlops:
        """Return the FLOPs of a forward and of a backward pass."""
        cost = self._model.cost(self._start if start is None else start, self._stop)
        return PassFlops(num_samples * cost.forward_flops, num_samples * cost.backward_flops)

    def memory_bytes(self, num_samples: int) -> int:
        """Return the training memory of the layers, with the tensors that autograd saves."""
        cost = self._model.cost(self._start, self._stop)
        return training_bytes(cost, self._optim_cfg) + int(num_samples * cost.saved_bytes)


def further_cuts(setup: Setup, cuts: Sequence[Cut], what: str) -> list[int]:
    """Return the positions of further cuts behind those of the clients.

    Args:
        setup: Model and client cuts.
        cuts: Layer names or numbers; negative numbers count from the end.
        what: Name of the option in error messages.

    Raises:
        UsageError: A cut does not exist, or there is no layer between two cuts.
    """
    model = setup.model
    before, before_what = max(setup.positions), "the client's cut"
    found = []
    for cut in cuts:
        at = model.position(cut + len(model) if isinstance(cut, int) and cut < 0 else cut)
        if at <= before:
            raise UsageError(
                f'{what}: "{model.names[at - 1]}" is not behind {before_what} "{model.names[before - 1]}"',
                hint=f"choose one of {', '.join(model.names[before:-1])}"
                if before < len(model) - 1
                else "cut earlier, or choose a model with more layers",
            )
        found.append(at)
        before, before_what = at, "the cut before it,"
    return found
