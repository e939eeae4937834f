"""A cut model and a client's training in one round, with the sizes that follow from their shapes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgeai.fedsplit.config.codec import CodecConfig
from edgeai.fedsplit.cuts.part_cost import PartCost
from edgeai.fedsplit.protocol.codec.sizes import cut_bytes

LABEL_BYTES = 8
"""Bytes of a label, sent as int64."""
FLOAT_BYTES = 4


@dataclass(frozen=True)
class CutParts:
    """A cut model.

    Args:
        cut: Name of the layer before the cut; "" for an uncut model.
        position: Number of that layer, from 1; 0 for an uncut model.
        client: Cost of the layers before the cut.
        server: Cost of the layers after the cut; None for an uncut model.
        tail: Cost of the last layers of a U-shape, which run on the client; `server` then ends before them.
        head: Cost of the auxiliary classifier on the client; None for methods without one.
    """

    cut: str
    position: int
    client: PartCost
    server: PartCost | None = None
    tail: PartCost | None = None
    head: PartCost | None = None

    @property
    def cut_values(self) -> int:
        """Number of floats of one sample at the cut: q."""
        return math.prod(self.client.output_shape) if self.server else 0


@dataclass(frozen=True)
class LocalTraining:
    """A client's training in one round.

    Args:
        num_samples: Samples of the client: n.
        local_epochs: Epochs per round: E.
        batch: Batch size: b.
        codec: Codec of activations and gradients.
        num_active: Number of clients in a round.
    """

    num_samples: int
    local_epochs: int
    batch: int
    codec: CodecConfig
    num_active: int

    @property
    def batches(self) -> list[int]:
        """Sizes of the batches of a round, in order."""
        full, rest = divmod(self.num_samples, self.batch)
        return ([self.batch] * full + [rest] * bool(rest)) * self.local_epochs

    def count(self, of_batch: Callable[[int], float], every: int = 1) -> float:
        """Return the sum of a function of the batch size over the batches 1, 1 + every, 1 + 2 every, ..."""
        taken = self.batches[::every]
        return sum(of_batch(size) * taken.count(size) for size in set(taken))

    @property
    def num_seen(self) -> int:
        """Number of samples trained on in a round: E n."""
        return self.num_samples * self.local_epochs


def label_bytes(parts: CutParts) -> int:
    """Return the bytes of one sample's labels, one per output position of the model."""
    last = parts.tail or parts.server or parts.client
    return LABEL_BYTES * math.prod(last.output_shape[:-1])


def linear_head(cut_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> PartCost:
    """Return the cost of a linear classifier on smashed data.

    Args:
        cut_shape: Shape of one sample at the cut.
        output_shape: Shape of the model's output for one sample. If it is [T, classes], the classifier is applied to
            each position.
    """
    num_classes = output_shape[-1]
    by_position = len(output_shape) == 2 and len(cut_shape) == 2 and cut_shape[0] == output_shape[0]
    width = cut_shape[-1] if by_position else math.prod(cut_shape)
    num_params = (width + 1) * num_classes
    forward_flops = 2.0 * width * num_classes * (cut_shape[0] if by_position else 1)
    return PartCost(
        num_params=num_params,
        num_trainable=num_params,
        weight_bytes=FLOAT_BYTES * num_params,
        forward_flops=forward_flops,
        backward_flops=2 * forward_flops,
        saved_bytes=FLOAT_BYTES * math.prod(cut_shape),
        output_shape=output_shape,
        output_bytes=FLOAT_BYTES * math.prod(output_shape),
    )


def crossing_bytes(part: PartCost, training: LocalTraining, every: int = 1) -> tuple[float, float]:
    """Return the bytes that cross a cut in a round: activations one way, gradients back.

    Args:
        part: The part before the cut.
        training: The client's training.
        every: Interval of the batches that are sent; 1 for all.
    """
    both = {size: cut_bytes(training.codec, (size, *part.output_shape)) for size in set(training.batches)}
    return training.count(lambda size: both[size][0], every), training.count(lambda size: both[size][1], every)
