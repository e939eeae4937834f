"""Versions of the edge model and its miner, as the trainer publishes them and the edge holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from edgeai.collab.models.state import copy_state, state_digest


@dataclass(frozen=True)
class Version:
    """Weights of an edge model and its miner; the tensors are never modified."""

    number: int
    net: Mapping[str, Tensor]
    miner: Mapping[str, Tensor]
    digest: str

    @classmethod
    def of(cls, number: int, net: Mapping[str, Tensor], miner: Mapping[str, Tensor]) -> Version:
        """Return a version with copies of two state dicts."""
        net, miner = copy_state(net), copy_state(miner)
        return cls(number, net, miner, state_digest({**net, **{f"miner/{name}": t for name, t in miner.items()}}))


@dataclass(frozen=True)
class UpdateResult:
    """Result of one update of the edge model and its miner."""

    version: Version
    """The current version, whether or not the update changed it."""
    accepted: bool
    """The edge model's change was kept; False also if it did not change."""
    miner_accepted: bool
    """The miner's change was kept."""
    miou_before: float | None
    """mIoU on the held-out frames, by the cloud's labels; None without such frames, or if nothing changed."""
    miou_after: float | None
    """mIoU of the trained net, kept or not; None in the same cases, or if training diverged."""
    num_steps: int
    compute_s: float
    """Duration of the update in seconds."""
    net_push: bytes
    """Input of `apply_push` for the edge's net; empty if it does not change."""
    miner_push: bytes
    """Input of `apply_push` for the edge's miner; empty if it does not change."""

    @property
    def num_bytes(self) -> int:
        """Bytes of both pushes, without headers."""
        return len(self.net_push) + len(self.miner_push)
