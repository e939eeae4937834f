"""Cost of a model part: parameters, FLOPs, saved memory and output size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PartCost:
    """Cost of one model part. "Per sample" means per row of the batch.

    Args:
        num_params: Number of parameters, each counted once.
        num_trainable: Number of trainable parameters.
        weight_bytes: Bytes of parameters and buffers: size of a copy of the part on the wire.
        forward_flops: FLOPs of the forward pass, per sample.
        backward_flops: FLOPs of the backward pass, per sample, by the measurement contract in `cuts/meter.py`.
        saved_bytes: Bytes that autograd keeps between forward and backward, per sample, without parameters. On the meta
            device recurrent layers and attention are decomposed; fused kernels may keep less.
        output_shape: Shape of the output, without the batch dimension.
        output_bytes: Bytes of the output, per sample.
    """

    num_params: int
    num_trainable: int
    weight_bytes: int
    forward_flops: float
    backward_flops: float
    saved_bytes: float
    output_shape: tuple[int, ...]
    output_bytes: int

    @property
    def train_flops(self) -> float:
        """FLOPs of one training step, per sample."""
        return self.forward_flops + self.backward_flops


def add_costs(costs: Sequence[PartCost]) -> PartCost:
    """Return the cost of consecutive parts as one part. They must not share weights."""
    return PartCost(
        num_params=sum(c.num_params for c in costs),
        num_trainable=sum(c.num_trainable for c in costs),
        weight_bytes=sum(c.weight_bytes for c in costs),
        forward_flops=sum(c.forward_flops for c in costs),
        backward_flops=sum(c.backward_flops for c in costs),
        saved_bytes=sum(c.saved_bytes for c in costs),
        output_shape=costs[-1].output_shape,
        output_bytes=costs[-1].output_bytes,
    )
