"""What one client moves and computes in one round of a method, from shapes alone: bytes, messages and FLOPs.

Notation: n samples of the client, E local epochs, b batch, B batches a round; q values a sample at the cut. F_C and F_S
are the forward FLOPs of the client's and the server's part, W_C the bytes of the client's part, W of the whole model.
Bytes are those that the ledger of a simulation counts: buffers, labels as int64 and the short last batch included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from edgeai.fedsplit.config.advise import AdviseMethod
from edgeai.fedsplit.config.codec import CodecConfig
from edgeai.fedsplit.config.federated import FedAvgConfig
from edgeai.fedsplit.config.hybrid import (
    CSEFSLConfig,
    FSLSageConfig,
    LocalLossConfig,
    SplitFedV2Config,
    SplitFedV3Config,
)
from edgeai.fedsplit.config.split import PSLConfig, RelayConfig, SGLRConfig, UShapeConfig
from edgeai.fedsplit.cuts.part_cost import PartCost, add_costs
from edgeai.fedsplit.protocol.codec.sizes import codec_bytes, cut_bytes

LABEL_BYTES = 8
"""Labels cross as int64."""
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Parts:
    """A model that is cut.

    Args:
        cut: The layer that the cut follows; "" for a model that is not cut.
        position: Its number from 1; 0 for a model that is not cut.
        client: Layers before the cut.
        server: Layers behind it; None for a model that is not cut.
        tail: Layers of a U-shape that are the client's again; then `server` lies between.
        head: Classifier behind the cut, on the client; only some methods have it.
    """

    cut: str
    position: int
    client: PartCost
    server: PartCost | None = None
    tail: PartCost | None = None
    head: PartCost | None = None

    @property
    def cut_values(self) -> int:
        """Floats of one sample at the cut: q."""
        return math.prod(self.client.output_shape) if self.server else 0


@dataclass(frozen=True)
class Load:
    """One client's round.

    Args:
        up_bytes: All that it sends.
        down_bytes: All that it receives.
        sync_up_bytes: Weights among them, in one message after the last step of each turn.
        sync_down_bytes: Weights among them, in one message before the first step of each turn.
        num_steps: Batches that the server takes part in; each waits for the link's delay once each way.
        num_up: Messages up a step.
        num_down: Messages down a step.
        forward_flops: Of the client, until smashed data go up.
        backward_flops: Of the client, after the gradient came down.
        server_flops: Of the server, for this client.
        labels_leave: The server sees labels.
        num_turns: Times that it takes weights over and gives them on.
    """

    up_bytes: float
    down_bytes: float
    sync_up_bytes: float
    sync_down_bytes: float
    num_steps: int
    num_up: int
    num_down: int
    forward_flops: float
    backward_flops: float
    server_flops: float
    labels_leave: bool = True
    num_turns: int = 1


@dataclass(frozen=True)
class Schooling:
    """How a client trains in a round.

    Args:
        num_samples: n.
        local_epochs: E.
        batch: b.
        codec: Of activations and gradients.
        num_active: Clients of a round.
    """

    num_samples: int
    local_epochs: int
    batch: int
    codec: CodecConfig
    num_active: int

    @property
    def batches(self) -> list[int]:
        """Samples of each batch of a round, in order."""
        full, rest = divmod(self.num_samples, self.batch)
        return ([self.batch] * full + [rest] * bool(rest)) * self.local_epochs

    def count(self, of_batch: Callable[[int], float], every: int = 1) -> float:
        """Adds up something over the batches 1, 1 + every, 1 + 2 every ..."""
        taken = self.batches[::every]
        return sum(of_batch(size) * taken.count(size) for size in set(taken))

    @property
    def num_seen(self) -> int:
        """Samples of a round: E n."""
        return self.num_samples * self.local_epochs


def load_of(method: AdviseMethod, parts: Parts, how: Schooling) -> Load:
    """Returns what a client moves and computes.

    Args:
        method: One of those with a closed form; a mixed one (HSFL) for a client that splits.
        parts: As the method needs them, with a head or a tail.
        how: Samples and batches.
    """
    if isinstance(method, FedAvgConfig):
        return _whole(parts, how)
    if isinstance(method, UShapeConfig):
        return _ushape(parts, how)
    if isinstance(method, LocalLossConfig | CSEFSLConfig | FSLSageConfig):
        return _local(method, parts, how)
    load = _full_gradient(parts, how)
    if isinstance(method, RelayConfig):
        return _handed_on(method, load)
    if isinstance(method, SGLRConfig):
        return _without_sync(_averaged(method, load, parts, how))
    is_private = isinstance(method, SplitFedV3Config)
    is_private |= isinstance(method, SplitFedV2Config | PSLConfig) and not method.sync
    return _without_sync(load) if is_private else load


def label_bytes(parts: Parts) -> int:
    """Of one sample: a label for each position that the model has an output for."""
    last = parts.tail or parts.server or parts.client
    return LABEL_BYTES * math.prod(last.output_shape[:-1])


def linear_head(cut_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> PartCost:
    """Returns the cost of a linear classifier on smashed data.

    Args:
        cut_shape: Of one sample at the cut.
        output_shape: Of one output of the model; with positions, [T, classes], the head reads each one by itself.
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


def _crossing(part: PartCost, how: Schooling, every: int = 1) -> tuple[float, float]:
    """Bytes at the end of a part in a round: activations one way, gradients back."""
    both = {size: cut_bytes(how.codec, (size, *part.output_shape)) for size in set(how.batches)}
    return how.count(lambda size: both[size][0], every), how.count(lambda size: both[size][1], every)


def _whole(parts: Parts, how: Schooling) -> Load:
    """N s each way; 3 F E n (row 1 of the cost table)."""
    cost, num_seen = parts.client, how.num_seen
    return Load(
        up_bytes=cost.weight_bytes,
        down_bytes=cost.weight_bytes,
        sync_up_bytes=cost.weight_bytes,
        sync_down_bytes=cost.weight_bytes,
        num_steps=0,
        num_up=0,
        num_down=0,
        forward_flops=num_seen * cost.forward_flops,
        backward_flops=num_seen * cost.backward_flops,
        server_flops=0.0,
        labels_leave=False,
    )


def _full_gradient(parts: Parts, how: Schooling) -> Load:
    """E n (q s + l) + W_C up and E n q s + W_C down (rows 2, 5, 6, 8, 9)."""
    assert parts.server is not None
    up_bytes, down_bytes = _crossing(parts.client, how)
    weight_bytes = parts.client.weight_bytes
    return Load(
        up_bytes=up_bytes + how.num_seen * label_bytes(parts) + weight_bytes,
        down_bytes=down_bytes + weight_bytes,
        sync_up_bytes=weight_bytes,
        sync_down_bytes=weight_bytes,
        num_steps=len(how.batches),
        num_up=1,
        num_down=1,
        forward_flops=how.num_seen * parts.client.forward_flops,
        backward_flops=how.num_seen * parts.client.backward_flops,
        server_flops=how.num_seen * parts.server.train_flops,
    )


def _handed_on(method: RelayConfig, load: Load) -> Load:
    """Weights at every turn; between peers charged once, where they are sent."""
    num_turns = 1 if method.turn == "client" else load.num_steps
    down_bytes = 0.0 if method.hand_off == "peer" else num_turns * load.sync_down_bytes
    return replace(
        load,
        up_bytes=load.up_bytes + (num_turns - 1) * load.sync_up_bytes,
        down_bytes=load.down_bytes - load.sync_down_bytes + down_bytes,
        sync_up_bytes=num_turns * load.sync_up_bytes,
        sync_down_bytes=down_bytes,
        num_turns=num_turns,
    )


def _ushape(parts: Parts, how: Schooling) -> Load:
    """E n (q1 + q2) s each way, and head and tail weights; labels stay (row 3).

    Up go the first cut's activations and the second one's gradients, down the others.
    """
    assert parts.server is not None
    assert parts.tail is not None
    first_up, first_down = _crossing(parts.client, how)
    swapped = replace(how, codec=CodecConfig.model_construct(up=how.codec.down, down=how.codec.up))
    second_down, second_up = _crossing(parts.server, swapped)
    weight_bytes = parts.client.weight_bytes + parts.tail.weight_bytes
    return Load(
        up_bytes=first_up + second_up + weight_bytes,
        down_bytes=first_down + second_down + weight_bytes,
        sync_up_bytes=weight_bytes,
        sync_down_bytes=weight_bytes,
        num_steps=len(how.batches),
        num_up=2,
        num_down=2,
        forward_flops=how.num_seen * (parts.client.forward_flops + parts.tail.forward_flops),
        backward_flops=how.num_seen * (parts.client.backward_flops + parts.tail.backward_flops),
        server_flops=how.num_seen * parts.server.train_flops,
        labels_leave=False,
    )


def _local(method: LocalLossConfig | CSEFSLConfig | FSLSageConfig, parts: Parts, how: Schooling) -> Load:
    """E n (q s + l) / h + W_C + a s up, W_C + a s down (rows 10 to 12).

    FSL-SAGE sends the head down only, now and then.
    """
    assert parts.server is not None
    assert parts.head is not None
    every = 1 if isinstance(method, LocalLossConfig) else method.h
    up_bytes, _ = _crossing(parts.client, how, every)
    num_sent = how.count(float, every)
    head_up = head_down = float(parts.head.weight_bytes)
    if isinstance(method, FSLSageConfig):
        head_up, head_down = 0.0, head_down / method.align_every
    weight_bytes = parts.client.weight_bytes
    both = add_costs([parts.client, parts.head])
    return Load(
        up_bytes=up_bytes + num_sent * label_bytes(parts) + weight_bytes + head_up,
        down_bytes=weight_bytes + head_down,
        sync_up_bytes=weight_bytes + head_up,
        sync_down_bytes=weight_bytes + head_down,
        num_steps=len(how.batches[::every]),
        num_up=1,
        num_down=0,
        forward_flops=how.num_seen * both.forward_flops,
        backward_flops=how.num_seen * both.backward_flops,
        server_flops=num_sent * parts.server.train_flops,
    )


def _averaged(method: SGLRConfig, load: Load, parts: Parts, how: Schooling) -> Load:
    """A share of the clients gets one vector a step instead of a gradient for each sample (row 13); their mean."""
    num_averaged = round(method.average_frac * how.num_active)
    vectors = len(how.batches) * codec_bytes(how.codec.down, (1, *parts.client.output_shape))
    cut_down = load.down_bytes - load.sync_down_bytes
    share = num_averaged / how.num_active
    return replace(load, down_bytes=load.sync_down_bytes + (1 - share) * cut_down + share * vectors)


def _without_sync(load: Load) -> Load:
    """Client parts stay private."""
    return replace(
        load,
        up_bytes=load.up_bytes - load.sync_up_bytes,
        down_bytes=load.down_bytes - load.sync_down_bytes,
        sync_up_bytes=0,
        sync_down_bytes=0,
    )
