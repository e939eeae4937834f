"""Bytes, messages and FLOPs of one client in one round of a method, from shapes alone.

Notation: n samples of the client, E local epochs, b batch size, q values per sample at the cut, s bytes per value, l
bytes of a sample's labels; N parameters of the whole model, a of the auxiliary classifier; F forward FLOPs of a sample;
W_C bytes of the client part; h the interval of batches that are sent.

Bytes equal those that a simulation's ledger counts: buffers, labels as int64 and the short last batch included.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeai.fedsplit.advise.cut_parts import CutParts, LocalTraining, crossing_bytes, label_bytes
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
from edgeai.fedsplit.cuts.part_cost import add_costs
from edgeai.fedsplit.protocol.codec.sizes import codec_bytes


@dataclass(frozen=True)
class Load:
    """Traffic and computation of one client in one round.

    Args:
        up_bytes: All bytes sent.
        down_bytes: All bytes received.
        sync_up_bytes: Weights among `up_bytes`, in one message after the last step of each turn.
        sync_down_bytes: Weights among `down_bytes`, in one message before the first step of each turn.
        num_steps: Number of batches that involve the server; each incurs the link's delay once per direction.
        num_up: Messages sent per step.
        num_down: Messages received per step.
        forward_flops: FLOPs of the client before it sends smashed data.
        backward_flops: FLOPs of the client after it receives the gradient.
        server_flops: FLOPs of the server for this client.
        labels_leave: Whether the server sees labels.
        num_turns: Number of times that the client receives and passes on weights.
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


def load_of(method: AdviseMethod, parts: CutParts, training: LocalTraining) -> Load:
    """Return the load of a client.

    Args:
        method: A method with a closed form; for HSFL the load is that of a client that splits the model.
        parts: The cut model, with tail or head if the method needs one.
        training: The client's training.
    """
    if isinstance(method, FedAvgConfig):
        return _whole(parts, training)
    if isinstance(method, UShapeConfig):
        return _ushape(parts, training)
    if isinstance(method, LocalLossConfig | CSEFSLConfig | FSLSageConfig):
        return _local(method, parts, training)
    load = _full_gradient(parts, training)
    if isinstance(method, RelayConfig):
        return _with_turns(method, load)
    if isinstance(method, SGLRConfig):
        return _without_sync(_averaged(method, load, parts, training))
    is_private = isinstance(method, SplitFedV3Config)
    is_private |= isinstance(method, SplitFedV2Config | PSLConfig) and not method.sync
    return _without_sync(load) if is_private else load


def _whole(parts: CutParts, training: LocalTraining) -> Load:
    """Return the load of FedAvg: N s bytes each way, 3 F E n FLOPs."""
    cost, num_seen = parts.client, training.num_seen
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


def _full_gradient(parts: CutParts, training: LocalTraining) -> Load:
    """Return the load with full gradients (relay, SplitFed, PSL): E n (q s + l) + W_C up, E n q s + W_C down."""
    assert parts.server is not None
    up_bytes, down_bytes = crossing_bytes(parts.client, training)
    weight_bytes = parts.client.weight_bytes
    return Load(
        up_bytes=up_bytes + training.num_seen * label_bytes(parts) + weight_bytes,
        down_bytes=down_bytes + weight_bytes,
        sync_up_bytes=weight_bytes,
        sync_down_bytes=weight_bytes,
        num_steps=len(training.batches),
        num_up=1,
        num_down=1,
        forward_flops=training.num_seen * parts.client.forward_flops,
        backward_flops=training.num_seen * parts.client.backward_flops,
        server_flops=training.num_seen * parts.server.train_flops,
    )


def _with_turns(method: RelayConfig, load: Load) -> Load:
    """Add the weights of every turn; peer to peer they are charged once, to the sender."""
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


def _ushape(parts: CutParts, training: LocalTraining) -> Load:
    """Return the load of a U-shape: E n (q1 + q2) s each way, plus head and tail weights, no labels.

    The first cut's activations and the second cut's gradients go up, the others down.
    """
    assert parts.server is not None
    assert parts.tail is not None
    first_up, first_down = crossing_bytes(parts.client, training)
    swapped = replace(training, codec=CodecConfig.model_construct(up=training.codec.down, down=training.codec.up))
    second_down, second_up = crossing_bytes(parts.server, swapped)
    weight_bytes = parts.client.weight_bytes + parts.tail.weight_bytes
    return Load(
        up_bytes=first_up + second_up + weight_bytes,
        down_bytes=first_down + second_down + weight_bytes,
        sync_up_bytes=weight_bytes,
        sync_down_bytes=weight_bytes,
        num_steps=len(training.batches),
        num_up=2,
        num_down=2,
        forward_flops=training.num_seen * (parts.client.forward_flops + parts.tail.forward_flops),
        backward_flops=training.num_seen * (parts.client.backward_flops + parts.tail.backward_flops),
        server_flops=training.num_seen * parts.server.train_flops,
        labels_leave=False,
    )


def _local(method: LocalLossConfig | CSEFSLConfig | FSLSageConfig, parts: CutParts, training: LocalTraining) -> Load:
    """Return the load with local losses: E n (q s + l) / h + W_C + a s up, W_C + a s down.

    FSL-SAGE sends the auxiliary classifier down only, every `align_every` rounds.
    """
    assert parts.server is not None
    assert parts.head is not None
    every = 1 if isinstance(method, LocalLossConfig) else method.h
    up_bytes, _ = crossing_bytes(parts.client, training, every)
    num_sent = training.count(float, every)
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
        num_steps=len(training.batches[::every]),
        num_up=1,
        num_down=0,
        forward_flops=training.num_seen * both.forward_flops,
        backward_flops=training.num_seen * both.backward_flops,
        server_flops=num_sent * parts.server.train_flops,
    )


def _averaged(method: SGLRConfig, load: Load, parts: CutParts, training: LocalTraining) -> Load:
    """Return the mean load of SGLR: a share of clients receives one vector per step, the rest whole gradients."""
    num_averaged = round(method.average_frac * training.num_active)
    vectors = len(training.batches) * codec_bytes(training.codec.down, (1, *parts.client.output_shape))
    cut_down = load.down_bytes - load.sync_down_bytes
    share = num_averaged / training.num_active
    return replace(load, down_bytes=load.sync_down_bytes + (1 - share) * cut_down + share * vectors)


def _without_sync(load: Load) -> Load:
    """Return the load without weights: client parts stay private."""
    return replace(
        load,
        up_bytes=load.up_bytes - load.sync_up_bytes,
        down_bytes=load.down_bytes - load.sync_down_bytes,
        sync_up_bytes=0,
        sync_down_bytes=0,
    )
