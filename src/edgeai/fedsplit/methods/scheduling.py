"""Order in which a server half is trained on the clients' batches."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Reply, Request


def serve_batch(rnd: Round, setup: Setup, server: ServerHalf, reply: Reply, *, lane: int = 0) -> Request:
    """Train the server half on one batch of smashed data.

    Returns:
        Request with the gradient at the cut, at the time when it has been computed.
    """
    z, y = reply.message.activations["z"], reply.message.labels["y"]
    step = server.step(setup.positions[reply.client], z, y)
    rnd.loss.add(step.loss, len(z))
    done_s = rnd.server.work(step.flops, reply.at_s, lane=lane)
    return Request(Message(gradients={"z": step.gradient}), done_s)


def interleave(
    rnd: Round, setup: Setup, servers: Mapping[int, ServerHalf], ready: Mapping[int, Request]
) -> dict[int, Request]:
    """Serve batch i of every client in turn, then batch i + 1.

    Args:
        rnd: Current round.
        setup: Cuts and sample counts.
        servers: Server half of each client: one half shared by several clients, or replicas on lanes of their own.
        ready: Request that starts each client.

    Returns:
        Request that ends the round of each client.
    """
    lane_of = lanes(servers, setup.world.lanes)
    left = {client: setup.num_batches(client) for client in ready}
    requests, ended = dict(ready), dict[int, Request]()
    while requests:
        following = dict[int, Request]()
        for client, reply in rnd.ask("step", requests).items():
            answer = serve_batch(rnd, setup, servers[client], reply, lane=lane_of[client])
            left[client] -= 1
            (following if left[client] else ended)[client] = answer
        requests = following
    return {client: ended[client] for client in ready}


def client_by_client(rnd: Round, setup: Setup, server: ServerHalf, ready: Mapping[int, Request]) -> dict[int, Request]:
    """Serve all batches of one client, then all of the next; arguments as in `interleave`."""
    ended = {}
    for client, request in ready.items():
        for _ in range(setup.num_batches(client)):
            reply = rnd.ask("step", {client: request})[client]
            request = serve_batch(rnd, setup, server, reply)
        ended[client] = request
    return ended


def by_arrival(rnd: Round, setup: Setup, server: ServerHalf, ready: Mapping[int, Request]) -> dict[int, Request]:
    """Serve batches in order of their arrival in virtual time; arguments as in `interleave`."""
    left = {client: setup.num_batches(client) for client in ready}
    replies = rnd.ask("step", ready)
    waiting = [(reply.at_s, client) for client, reply in replies.items()]
    heapq.heapify(waiting)
    ended = {}
    while waiting:
        _, client = heapq.heappop(waiting)
        answer = serve_batch(rnd, setup, server, replies[client])
        left[client] -= 1
        if left[client]:
            replies[client] = rnd.ask("step", {client: answer})[client]
            heapq.heappush(waiting, (replies[client].at_s, client))
        else:
            ended[client] = answer
    return {client: ended[client] for client in ready}


def lanes(servers: Mapping[int, ServerHalf], num_lanes: int) -> dict[int, int]:
    """Return the server lane of each client: one lane per distinct server half, in turn."""
    numbers: dict[int, int] = {}
    for server in servers.values():
        numbers.setdefault(id(server), len(numbers))
    return {client: numbers[id(server)] % num_lanes for client, server in servers.items()}
