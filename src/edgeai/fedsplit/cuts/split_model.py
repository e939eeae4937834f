"""A sequential model that can be cut between its layers.

Position 0 is before the first layer, position p behind layer p. A cut is named by the layer that it follows. Weights
have the same names in every part as in the whole model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from edgeai.core.config.problems import nearest
from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.cuts import Cut
from edgeai.fedsplit.cuts.meter import measure_part
from edgeai.fedsplit.cuts.part_cost import PartCost
from edgeai.fedsplit.cuts.weights import Weights


class SplitModel:
    """A model with its layers and the cost of every part.

    Args:
        model: Layers in order; the module is used, not copied.
        sample_shape: Shape of one input sample, without the batch dimension.
        dtype: Data type of the input; an integer type for tokens.
    """

    def __init__(self, model: nn.Sequential, sample_shape: Sequence[int], dtype: torch.dtype = torch.float32) -> None:
        self.model = model
        self.names = tuple(name for name, _ in model.named_children())
        self.sample_shape, self.dtype = tuple(sample_shape), dtype
        self._costs: dict[tuple[int, int], PartCost] = {}

    def __len__(self) -> int:
        return len(self.names)

    def copy(self) -> SplitModel:
        """Return a model with copies of the weights; measured costs are shared."""
        twin = SplitModel(copy.deepcopy(self.model), self.sample_shape, self.dtype)
        twin._costs = self._costs
        return twin

    def position(self, cut: Cut) -> int:
        """Return the position of a cut.

        Raises:
            UsageError: There is no such layer, or one side would have no layer.
        """
        if isinstance(cut, str) and cut not in self.names:
            near = nearest(cut, self.names)
            hint = f'did you mean "{near}"? ' if near else ""
            raise UsageError(f'cut: no layer "{cut}"', hint=f"{hint}the layers are {', '.join(self.names)}")
        at = self.names.index(cut) + 1 if isinstance(cut, str) else cut
        if not 0 < at < len(self):
            side = "client" if at <= 0 else "server"
            name = f'"{cut}"' if isinstance(cut, str) else str(cut)
            raise UsageError(
                f"cut: {name} leaves the {side} without a layer", hint=f"cut after one of {', '.join(self.names[:-1])}"
            )
        return at

    def part(self, start: int, stop: int) -> nn.Sequential:
        """Return the layers between two positions, sharing their weights."""
        view = nn.Sequential()
        for name in self.names[start:stop]:
            view.add_module(name, getattr(self.model, name))
        view.train(self.model.training)
        return view

    def cost(self, start: int, stop: int) -> PartCost:
        """Return the cost of the layers between two positions; measured once."""
        if (start, stop) not in self._costs:
            self._costs[start, stop] = measure_part(
                self.part(start, stop), self.shape_at(start), self.dtype if start == 0 else torch.float32
            )
        return self._costs[start, stop]

    def shape_at(self, position: int) -> tuple[int, ...]:
        """Return the shape of one sample at a position."""
        return self.cost(0, position).output_shape if position else self.sample_shape

    def weights(self, start: int = 0, stop: int | None = None) -> Weights:
        """Return the weights between two positions, not copied."""
        return dict(self.part(start, len(self) if stop is None else stop).state_dict())

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Set the given weights and leave the others unchanged.

        Raises:
            KeyError: The model has no such weight.
        """
        own = self.model.state_dict()
        with torch.no_grad():
            for name, value in weights.items():
                own[name].copy_(value)

    def layer_of(self, weight: str) -> int:
        """Return the number, from 0, of the layer that a weight belongs to."""
        return self.names.index(weight.partition(".")[0])
