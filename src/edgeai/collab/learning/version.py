"""Versions of the edge model and its miner, as the cloud makes them and the edge holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from edgeai.collab.models.seg_model import SegModel, state_digest
from edgeai.collab.policy.miner import Miner
from edgeai.core.errors import UsageError


@dataclass(frozen=True)
class Version:
    """An edge model and its miner; the tensors are never written to again."""

    number: int
    net: Mapping[str, Tensor]
    miner: Mapping[str, Tensor]
    digest: str

    @classmethod
    def of(cls, number: int, net: Mapping[str, Tensor], miner: Mapping[str, Tensor]) -> Version:
        """Copies two state dicts."""
        net, miner = copy_state(net), copy_state(miner)
        return cls(number, net, miner, state_digest({**net, **{f"miner/{name}": t for name, t in miner.items()}}))

    def load_into(self, model: SegModel, miner: Miner) -> None:
        """Makes a model and a miner this version.

        Raises:
            UsageError: The model is frozen.
        """
        trainable_net(model).load_state_dict(dict(self.net))
        miner.load_state_dict(dict(self.miner))


def trainable_net(model: SegModel) -> nn.Module:
    """The module that adaptation changes.

    Raises:
        UsageError: The model is frozen.
    """
    if model.trainable is None:
        raise UsageError(
            f"the edge model cannot be adapted: {model.frozen_reason}",
            hint="take a trainable edge model, or a strategy that does not adapt it",
        )
    return model.trainable


def copy_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict's own copy on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
