"""Asynchronous split learning: clients are updated, or asked for data, only while the loss changes.

Chen et al., "Communication and Computation Reduction for Split Learning using Asynchronous Training", SiPS 2021 (arXiv
2107.09786). Client: the layers before the cut, data. Server: the layers behind it, labels, and a cache of smashed data.
A round is of one of three kinds, by the change of the loss since the clients' last update:
- full, if it changed by more than delta: relay split learning, with the client part passed on via the server;
- forward, otherwise: the client part is not updated; smashed data are sent once, without gradients;
- reuse, after a forward round: nothing is sent; the server trains on cached smashed data.
Sent per client: E n_k (q s + l) up, E n_k q s down and the client part both ways in a full round; n_k (q s + l) up and
the client part down in a forward round; nothing in a reuse round.

Batches are the same in every round and epoch, so cached data equal those that would be sent again. In a reuse round a
client whose smashed data are not cached yet is asked for them.

Differs from the paper: at most `max_reuse` reuse rounds in a row. Quantization is left to `codec`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from edgeai.fedsplit.config.split import AsyncSLConfig
from edgeai.fedsplit.methods.method import Method, Signature
from edgeai.fedsplit.methods.scheduling import serve_batch
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.weight_exchange import send_client_parts
from edgeai.fedsplit.protocol.batching import derived_seed, permuted
from edgeai.fedsplit.protocol.client_half import ClientContext, SplitClient
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf

_ORDER = 10
"""Purpose of the seed of a client's sample order."""


class AsyncClient(SplitClient):
    """Client with the same batches in every round."""

    def on_forward(self, _: Message) -> Iterator[Message]:
        """Send the smashed data of every sample once, without training."""
        part, protect = self.parts[self.role], self.context.protect
        for indices in fixed_order(self.context):
            x, y = self.context.samples.x[indices], self.context.samples.y[indices]
            z = self.smash_only(x)
            if protect is not None:
                y = protect.labels(indices, y)
            self.flops += len(x) * part.cost.forward_flops
            yield Message(activations={"z": z}, labels={"y": y})

    def _batches(self) -> Iterator[Tensor]:
        return itertools.chain.from_iterable([fixed_order(self.context)] * self.context.epochs)


def fixed_order(context: ClientContext) -> tuple[Tensor, ...]:
    """Return a client's batches, the same in every round."""
    return permuted(len(context.samples), context.batch, derived_seed(context.seed, context.client, _ORDER))


@dataclass(frozen=True)
class Schedule:
    """Kind of the next round.

    Args:
        is_frozen: Clients are not updated.
        reference: Mean loss of the round of their last update; None before the first.
        num_reused: Number of reuse rounds since then.
    """

    is_frozen: bool = False
    reference: float | None = None
    num_reused: int = 0

    def after(self, loss: float, *, was_reuse: bool, cfg: AsyncSLConfig) -> Schedule:
        """Return the schedule after a round with this loss; NaN (no client in time) changes nothing."""
        if math.isnan(loss):
            return self
        has_changed = self.reference is None or abs(loss - self.reference) > cfg.threshold
        if not self.is_frozen:
            return Schedule(not has_changed, loss, 0)
        num_reused = self.num_reused + was_reuse
        return replace(self, is_frozen=not has_changed and num_reused < cfg.max_reuse, num_reused=num_reused)


class CachedBatch(NamedTuple):
    """Smashed data and labels of one batch."""

    z: Tensor
    y: Tensor


class AsyncSL(Method):
    """Split learning with loss-based skipping of client updates."""

    cfg: AsyncSLConfig
    client_half = AsyncClient
    signature = Signature(activations_up=True, gradients_down=True, labels_up=True, weights_up=True, weights_down=True)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.schedule = Schedule()
        self.cache: dict[int, list[CachedBatch]] = {}
        """Cached batches of each client, computed with its current part."""

    def round(self, rnd: Round) -> None:
        """Run a full, forward or reuse round."""
        server = ServerHalf(self.global_model, self.setup.first, self.setup.cfg.optim)
        unknown = [client for client in rnd.clients if client not in self.cache]
        was_reuse = self.schedule.is_frozen and not unknown
        rnd.notes["is_full_round"] = float(not self.schedule.is_frozen)
        if self.schedule.is_frozen:
            self.train_server(rnd, server, self.fetch(rnd, unknown))
        else:
            self.cache.clear()
            self.relay(rnd, server)
        self.schedule = self.schedule.after(rnd.loss.mean, was_reuse=was_reuse, cfg=self.cfg)

    def relay(self, rnd: Round, server: ServerHalf) -> None:
        """Train one client after the other, with full exchanges."""
        rnd.server.hold(server.memory_bytes(self.setup.cfg.batch))
        at_s = rnd.begin_s
        for client in rnd.clients:
            if at_s >= rnd.cutoff.limit_s:
                rnd.late.add(client)
                continue
            request = send_client_parts(rnd, self.setup, self.global_model, [client], at_s)[client]
            for _ in range(self.setup.num_batches(client)):
                if request.at_s < rnd.cutoff.limit_s:
                    request = serve_batch(rnd, self.setup, server, rnd.ask("step", {client: request})[client])
            reply = rnd.ask("unload", {client: request})[client]
            if rnd.accept({client: reply}):
                self.global_model.load(reply.message.weights)
            at_s = reply.at_s

    def fetch(self, rnd: Round, clients: list[int]) -> dict[int, list[float]]:
        """Request missing smashed data from several clients in parallel.

        Returns:
            Arrival time of each batch, by client, for the clients that count.
        """
        ready = send_client_parts(rnd, self.setup, self.global_model, clients)
        arrived = {client: list(replies) for client, replies in rnd.stream("forward", ready).items()}
        counted = rnd.accept({client: replies[-1] for client, replies in arrived.items()})
        for client in counted:
            messages = [reply.message for reply in arrived[client]]
            self.cache[client] = [CachedBatch(message.activations["z"], message.labels["y"]) for message in messages]
        return {client: [reply.at_s for reply in arrived[client]] for client in counted}

    def train_server(self, rnd: Round, server: ServerHalf, arrived_s: dict[int, list[float]]) -> None:
        """Train on cached batches, client by client; on new batches not before their arrival."""
        cached_bytes = sum(z.nbytes + y.nbytes for batches in self.cache.values() for z, y in batches)
        rnd.server.hold(server.memory_bytes(self.setup.cfg.batch) + cached_bytes)
        for client in [client for client in rnd.clients if client in self.cache]:
            times_s = arrived_s.get(client, [rnd.begin_s] * len(self.cache[client]))
            for _ in range(self.setup.cfg.local_epochs):
                for (z, y), at_s in zip(self.cache[client], times_s, strict=True):
                    step = server.step(self.setup.positions[client], z, y)
                    rnd.loss.add(step.loss, len(y))
                    rnd.server.work(step.flops, at_s)

    def extra(self) -> dict[str, Any]:
        """Return the schedule and the cache."""
        cache = {client: [tuple(batch) for batch in batches] for client, batches in self.cache.items()}
        return {"pace": asdict(self.schedule), "cache": cache}

    def load_extra(self, extra: dict[str, Any]) -> None:
        """Restore what `extra` returned."""
        self.schedule = Schedule(**extra["pace"])
        self.cache = {client: [CachedBatch(*pair) for pair in batches] for client, batches in extra["cache"].items()}
