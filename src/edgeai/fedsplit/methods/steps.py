"""Moves that split methods share: hand weights out, serve batches in some order, take weights in."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from edgeai.fedsplit.cuts.split_model import SplitModel, Weights, average
from edgeai.fedsplit.methods.method import Evaluated, Kept, Method, Round, Setup
from edgeai.fedsplit.protocol.halves import ServerHalf
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.transport import Reply, Request


def hand_out(
    rnd: Round, setup: Setup, model: SplitModel, clients: Sequence[int], at_s: float | None = None
) -> dict[int, Request]:
    """Sends clients the layers before their cut.

    Args:
        rnd: The round.
        setup: Cuts.
        model: Whose layers.
        clients: To whom.
        at_s: When; by default as the round begins.

    Returns:
        By client, an empty request at the time from which it can train.
    """
    messages = {
        client: Request(
            Message(weights=model.weights(0, setup.positions[client])), rnd.begin_s if at_s is None else at_s
        )
        for client in clients
    }
    return {client: Request(at_s=at_s) for client, at_s in rnd.tell("load", messages).items()}


def serve(rnd: Round, setup: Setup, server: ServerHalf, reply: Reply, *, lane: int = 0) -> Request:
    """Steps the server's half on one batch.

    Returns:
        The gradient at the cut, on its way at the time when it is computed.
    """
    z, y = reply.message.activations["z"], reply.message.labels["y"]
    step = server.step(setup.positions[reply.client], z, y)
    rnd.loss(step.loss, len(z))
    return Request(Message(gradients={"z": step.gradient}), rnd.work(step.flops, reply.at_s, lane=lane))


def interleave(
    rnd: Round, setup: Setup, servers: Mapping[int, ServerHalf], ready: Mapping[int, Request]
) -> dict[int, Request]:
    """Batch i of every client in turn, then batch i + 1.

    Args:
        rnd: The round.
        setup: Cuts and sample counts.
        servers: Who serves each client; the same half for several, or replicas on lanes of their own.
        ready: By client, what starts it.

    Returns:
        By client, the request that ends its round.
    """
    halves = list({id(server): server for server in servers.values()}.values())
    lane_of = {client: _index(halves, server) % setup.world.lanes for client, server in servers.items()}
    left = {client: setup.num_batches(client) for client in ready}
    requests, ended = dict(ready), dict[int, Request]()
    while requests:
        following = dict[int, Request]()
        for client, reply in rnd.ask("step", requests).items():
            answer = serve(rnd, setup, servers[client], reply, lane=lane_of[client])
            left[client] -= 1
            (following if left[client] else ended)[client] = answer
        requests = following
    return {client: ended[client] for client in ready}


def client_by_client(rnd: Round, setup: Setup, server: ServerHalf, ready: Mapping[int, Request]) -> dict[int, Request]:
    """All batches of one client, then all of the next; see `interleave`."""
    ended = {}
    for client, request in ready.items():
        for _ in range(setup.num_batches(client)):
            reply = rnd.ask("step", {client: request})[client]
            request = serve(rnd, setup, server, reply)
        ended[client] = request
    return ended


def by_arrival(rnd: Round, setup: Setup, server: ServerHalf, ready: Mapping[int, Request]) -> dict[int, Request]:
    """Batches in the order in which they arrive in virtual time; see `interleave`."""
    left = {client: setup.num_batches(client) for client in ready}
    replies = rnd.ask("step", ready)
    waiting = [(reply.at_s, client) for client, reply in replies.items()]
    heapq.heapify(waiting)
    ended = {}
    while waiting:
        _, client = heapq.heappop(waiting)
        answer = serve(rnd, setup, server, replies[client])
        left[client] -= 1
        if left[client]:
            replies[client] = rnd.ask("step", {client: answer})[client]
            heapq.heappush(waiting, (replies[client].at_s, client))
        else:
            ended[client] = answer
    return {client: ended[client] for client in ready}


def weights_served(servers: Mapping[int, ServerHalf]) -> dict[int, Weights]:
    """Each client's server weights; the same tensors where clients share a half."""
    weights = {id(server): server.weights() for server in servers.values()}
    return {client: weights[id(server)] for client, server in servers.items()}


def own_model(method: Method, client: int, kept: Kept) -> SplitModel:
    """One client's model: its private layers and the common rest."""
    own = method.setup.model.copy()
    own.load(method.global_model.weights(method.setup.positions[client]))
    own.load(kept(client))
    return own


def own_models(method: Method, kept: Kept) -> list[Evaluated]:
    """Every client's model."""
    clients = range(len(method.setup.positions))
    return [Evaluated(method.whole(own_model(method, client, kept)), client) for client in clients]


def stitched(
    setup: Setup,
    replies: Mapping[int, Reply],
    served: Mapping[int, Weights],
    shares: Sequence[float] | None = None,
) -> Weights:
    """Averages whole models, each stitched from a client's layers and those of the server's half that served it.

    With one cut for all this is the average of the client parts, and of the server parts; with several cuts a layer
    counts for each client wherever it was trained.

    Args:
        setup: Cuts and sample counts.
        replies: The client parts, of those clients that count.
        served: The server's weights, by client.
        shares: How much each client counts; by default n_k / n.
    """
    model, clients = setup.model, list(replies)
    states: list[Weights] = []
    for client in clients:
        position = setup.positions[client]
        rest = {name: value for name, value in served[client].items() if model.layer_of(name) >= position}
        states.append({**replies[client].message.weights, **rest})
    return average(states, setup.shares(clients) if shares is None else shares)


def _index(halves: Sequence[ServerHalf], wanted: ServerHalf) -> int:
    return next(number for number, half in enumerate(halves) if half is wanted)
