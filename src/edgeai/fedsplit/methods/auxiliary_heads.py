"""Small networks that some methods put beside the model, and the names under which their weights travel.

Weights of the model go by their names in it. Those of another network have its tag and a slash in front, which no name
of a layer has, so that one mapping can carry both: "conv1.weight", "head/1.weight".
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from edgeai.fedsplit.cuts.meter import measure_part
from edgeai.fedsplit.cuts.split_model import SplitModel, Weights, average
from edgeai.fedsplit.methods.method import Evaluated, Kept, Method, Setup
from edgeai.fedsplit.protocol.halves import Part, derived_seed
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.transport import Reply

HEAD = "head"
"""Tag of a client's classifier behind the cut."""

_HEAD_SEED = 10  # what a draw is for; 1 and 2 are the engine's


def tagged(tag: str, weights: Mapping[str, Tensor]) -> Weights:
    """Weights of a network beside the model, as they travel."""
    return {f"{tag}/{name}": value for name, value in weights.items()}


def of_tag(tag: str, weights: Mapping[str, Tensor]) -> Weights:
    """Of a mapping the weights of one such network, by its own names."""
    start = f"{tag}/"
    return {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}


def of_model(weights: Mapping[str, Tensor]) -> Weights:
    """Of a mapping the weights of the model."""
    return {name: value for name, value in weights.items() if "/" not in name}


def build_head(setup: Setup, position: int) -> Part:
    """A linear classifier on smashed data (Flatten + Linear), with the weights that the run's seed gives it."""
    shape = setup.model.shape_at(position)
    return build_beside(
        setup, position, lambda: nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), setup.num_classes)), _HEAD_SEED
    )


def build_beside(setup: Setup, position: int, build: Callable[[], nn.Module], purpose: int) -> Part:
    """A network that takes smashed data, with weights of its own.

    Args:
        setup: Of the run.
        position: Of the cut that it stands behind.
        build: Makes it, with chances from torch's generator.
        purpose: Tells its chances from those of other networks.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(setup.cfg.seed, position, purpose))
        module = build()
    like = next(setup.model.model.parameters(), torch.empty(0))
    return Part(module.to(like.device), measure_part(module, setup.model.shape_at(position)))


def copy_part(part: Part) -> Part:
    """The same network with weights of its own."""
    return Part(copy.deepcopy(part.module), part.cost)


def without_beside(replies: Mapping[int, Reply]) -> dict[int, Reply]:
    """Answers with the weights of the model alone."""
    return {
        client: replace(reply, message=Message(weights=of_model(reply.message.weights)))
        for client, reply in replies.items()
    }


def average_beside(tag: str, parts: Mapping[int, Part], setup: Setup, replies: Mapping[int, Reply]) -> None:
    """Averages networks beside the model over the clients with the same cut, by n_k / n.

    Args:
        tag: Of the networks.
        parts: The server's, by position of the cut; they take the averages over.
        setup: Cuts and sample counts.
        replies: What came up, by client.
    """
    for position, part in parts.items():
        clients = [client for client in replies if setup.positions[client] == position]
        if clients:
            states = [of_tag(tag, replies[client].message.weights) for client in clients]
            part.module.load_state_dict(average(states, setup.shares(clients)))


def private_model(method: Method, client: int, kept: Kept) -> SplitModel:
    """One client's model: its private layers, of what it keeps, and the common rest."""
    own = method.setup.model.copy()
    own.load(method.global_model.weights(method.setup.positions[client]))
    own.load(of_model(kept(client)))
    return own


def private_models(method: Method, kept: Kept) -> Sequence[Evaluated]:
    """Every client's model."""
    clients = range(len(method.setup.positions))
    return [Evaluated(method.whole(private_model(method, client, kept)), client) for client in clients]
