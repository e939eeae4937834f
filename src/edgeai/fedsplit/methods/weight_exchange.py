"""Client parts sent to the clients, and whole models averaged from client parts and server halves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.cuts.weights import Weights, average
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Reply, Request


def send_client_parts(
    rnd: Round, setup: Setup, model: SplitModel, clients: Sequence[int], at_s: float | None = None
) -> dict[int, Request]:
    """Send clients the layers before their cut.

    Args:
        rnd: Current round.
        setup: Cuts.
        model: Model with the weights to send.
        clients: Receivers.
        at_s: Time of sending; None for the start of the round.

    Returns:
        Empty request of each client, at the time from which it can train.
    """
    messages = {
        client: Request(
            Message(weights=model.weights(0, setup.positions[client])), rnd.begin_s if at_s is None else at_s
        )
        for client in clients
    }
    return {client: Request(at_s=at_s) for client, at_s in rnd.tell("load", messages).items()}


def server_weights(servers: Mapping[int, ServerHalf]) -> dict[int, Weights]:
    """Return the server-side weights of each client; the same tensors for clients that share a half."""
    weights = {id(server): server.weights() for server in servers.values()}
    return {client: weights[id(server)] for client, server in servers.items()}


def average_whole_models(
    setup: Setup,
    replies: Mapping[int, Reply],
    served: Mapping[int, Weights],
    shares: Sequence[float] | None = None,
) -> Weights:
    """Average whole models, each joined from a client's layers and the server half that served it.

    With a single cut this is the average of the client parts and of the server halves. With several cuts a layer counts
    once per client, whether it was trained on the client or at the server.

    Args:
        setup: Cuts and sample counts.
        replies: Client parts of the clients that count.
        served: Server-side weights by client.
        shares: Weight of each client; n_k / n by default.
    """
    model, clients = setup.model, list(replies)
    states: list[Weights] = []
    for client in clients:
        position = setup.positions[client]
        rest = {name: value for name, value in served[client].items() if model.layer_of(name) >= position}
        states.append({**replies[client].message.weights, **rest})
    return average(states, setup.shares(clients) if shares is None else shares)
