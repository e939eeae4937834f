"""A server in the middle of a model, which has neither data nor labels: it passes on, and passes back.

Legend: u [b, ...] what comes in, v [b, ...] what goes out, g gradients of the batch's mean loss by them.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.cuts import Cut
from edgeai.fedsplit.config.optim import OptimConfig
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.protocol.part import build_optimizer, training_bytes


class Stretch:
    """Layers between two places of a model, with an optimizer of their own.

    Args:
        model: Shared, not copied.
        start: The first place at which something can come in.
        stop: The place at which it goes out.
        optim: Of these layers.
    """

    def __init__(self, model: SplitModel, start: int, stop: int, optim: OptimConfig) -> None:
        self._model, self._start, self._stop, self._optim_cfg = model, start, stop, optim
        self._optim = build_optimizer(model.part(start, stop).parameters(), optim)
        self._input: Tensor | None = None
        self._output: Tensor | None = None

    def forward(self, u: Tensor, start: int | None = None) -> Tensor:
        """Returns v without its graph, and waits for its gradient.

        Args:
            u: What comes in.
            start: Where it does; by default in front of all the layers.
        """
        self._input = u.detach().requires_grad_()
        self._output = self._model.part(self._start if start is None else start, self._stop)(self._input)
        return self._output.detach()

    def backward(self, gradient: Tensor) -> Tensor:
        """From the gradient at v to the one at u; then the layers take a step."""
        assert self._input is not None, "a gradient came before any batch"
        assert self._output is not None
        self._optim.zero_grad()
        self._output.backward(gradient)
        self._optim.step()
        found = self._input.grad
        assert found is not None
        self._input = self._output = None
        return found

    def flops(self, num_samples: int, start: int | None = None) -> tuple[float, float]:
        """Of a forward and of a backward pass."""
        cost = self._model.cost(self._start if start is None else start, self._stop)
        return num_samples * cost.forward_flops, num_samples * cost.backward_flops

    def memory_bytes(self, num_samples: int) -> int:
        """Of the layers in training, with what autograd saves."""
        cost = self._model.cost(self._start, self._stop)
        return training_bytes(cost, self._optim_cfg) + int(num_samples * cost.saved_bytes)


def further_cuts(setup: Setup, cuts: Sequence[Cut], what: str) -> list[int]:
    """Places of cuts behind those of the clients.

    Args:
        setup: The model and the clients' cuts.
        cuts: By name or number; negative numbers count from the end.
        what: The option that they come from.

    Raises:
        UsageError: A cut is none, or leaves a part between two cuts without a layer.
    """
    model = setup.model
    before, before_what = max(setup.positions), "the client's cut"
    found = []
    for cut in cuts:
        at = model.position(cut + len(model) if isinstance(cut, int) and cut < 0 else cut)
        if at <= before:
            raise UsageError(
                f'{what}: "{model.names[at - 1]}" does not lie behind {before_what} "{model.names[before - 1]}"',
                hint=f"choose one of {', '.join(model.names[before:-1])}"
                if before < len(model) - 1
                else "cut earlier, or choose a model with more layers",
            )
        found.append(at)
        before, before_what = at, "the cut before it,"
    return found
