"""Auxiliary networks at the cut: local heads, decoders and projections, with their averaging."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import nn

from edgeai.fedsplit.cuts.meter import measure_part
from edgeai.fedsplit.cuts.weights import average
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.weight_tags import model_weights, untagged
from edgeai.fedsplit.protocol.batching import derived_seed
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.part import Part
from edgeai.fedsplit.protocol.transport import Reply

HEAD = "head"
"""Role and weight tag of a client's local classifier behind the cut."""

_HEAD_SEED = 10  # purpose of the draw; 1 and 2 are those of the client half


def build_heads(setup: Setup) -> dict[int, Part]:
    """Build a linear classifier on smashed data (Flatten + Linear) for each cut, by the cut's position."""

    def build(position: int) -> nn.Module:
        size = math.prod(setup.model.shape_at(position))
        return nn.Sequential(nn.Flatten(), nn.Linear(size, setup.num_classes))

    return build_auxiliary(setup, build, _HEAD_SEED)


def build_auxiliary(setup: Setup, build: Callable[[int], nn.Module], purpose: int) -> dict[int, Part]:
    """Build a network that takes smashed data for each cut.

    Args:
        setup: Model, cuts and seed.
        build: Builds the network for a cut's position, with initial weights from torch's generator.
        purpose: Number that separates its random draws from those of other networks.

    Returns:
        The networks by position of the cut.
    """
    return {position: _build_at(setup, position, build, purpose) for position in setup.distinct_positions}


def _build_at(setup: Setup, position: int, build: Callable[[int], nn.Module], purpose: int) -> Part:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(setup.cfg.seed, position, purpose))
        module = build(position)
    like = next(setup.model.model.parameters(), torch.empty(0))
    return Part(module.to(like.device), measure_part(module, setup.model.shape_at(position)))


def copy_part(part: Part) -> Part:
    """Return the same network with its own copy of the weights."""
    return Part(copy.deepcopy(part.module), part.cost)


def without_auxiliary(replies: Mapping[int, Reply]) -> dict[int, Reply]:
    """Return the replies with the weights of the model only."""
    return {
        client: replace(reply, message=Message(weights=model_weights(reply.message.weights)))
        for client, reply in replies.items()
    }


def average_auxiliary(tag: str, parts: Mapping[int, Part], setup: Setup, replies: Mapping[int, Reply]) -> None:
    """Average auxiliary networks over the clients with the same cut, weighted by n_k / n.

    Args:
        tag: Weight tag of the networks.
        parts: Networks at the server by position of the cut; they are set to the averages.
        setup: Cuts and sample counts.
        replies: Uploaded weights by client.
    """
    for position, part in parts.items():
        clients = [client for client in replies if setup.positions[client] == position]
        if clients:
            states = [untagged(tag, replies[client].message.weights) for client in clients]
            part.module.load_state_dict(average(states, setup.shares(clients)))
