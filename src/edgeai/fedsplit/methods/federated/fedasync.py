"""FedAsync: nobody waits; every update is mixed in as it arrives, weighed by its staleness.

Xie et al., "Asynchronous Federated Optimization", 2019, algorithm 1 with polynomial staleness.
Client: all layers, data, labels. Server: the model, and the number of updates mixed in so far, its version.
Crosses, per job: N s bytes down, N s up.

A job is one local training: it begins with the model of version v, and when it arrives at version t the model becomes
(1 - alpha) w + alpha w_new with alpha = mixing (1 + t - v)^-a. A device begins its next job as soon as it has
delivered. A round lasts until so many updates have arrived as clients take part in it; jobs that are under way go on
into the next round. Bytes and joules count where they fall, the bytes of an update in the round that began its job.

Differs from the paper: a device that is there is never idle, where the paper's scheduler triggers jobs at random; no
proximal term. Who is there is drawn anew in each round, and counts when a job begins. The order of a client's samples
comes from the round in which a job begins and the number of the client's jobs before it in that round.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeai.fedsplit.config.federated import FedAsyncConfig
from edgeai.fedsplit.cuts.weights import Weights, average
from edgeai.fedsplit.methods.federated.fedavg import FedAvg, FullClient
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.transport import Request


class AsyncClient(FullClient):
    """Does several jobs in a round if it is fast, each in an order of its own."""

    def on_train(self, message: Message) -> Message:
        """One job."""
        self._order = self._batches()
        answer = super().on_train(message)
        self.first_epoch += self.context.epochs
        return answer


@dataclass(frozen=True)
class Job:
    """An update on its way."""

    at_s: float
    """When it arrives."""
    version: int
    """Of the model that it began with."""
    loss: float
    weights: Weights


class FedAsync(FedAvg):
    """See the head of this file."""

    cfg: FedAsyncConfig
    client_half = AsyncClient
    carries_over = True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.version = 0
        self.jobs: dict[int, Job] = {}
        """By client."""

    def round(self, rnd: Round) -> None:
        """Idle devices begin; updates are mixed in until there were enough, or the deadline is there."""
        self.hold(rnd, 1)
        gone_s = [self.begin(rnd, client, rnd.begin_s) for client in rnd.clients if client not in self.jobs]
        mixed_s: list[float] = []
        staleness = 0
        while len(mixed_s) < rnd.cutoff.num_wanted and self.jobs:
            client = min(self.jobs, key=lambda client: (self.jobs[client].at_s, client))
            if self.jobs[client].at_s > rnd.cutoff.limit_s:
                break
            job = self.jobs.pop(client)
            mixed_s.append(job.at_s)
            staleness += self.version - job.version
            self.mix(job)
            rnd.loss.add(job.loss, self.setup.num_samples[client])
            if client in rnd.clients and len(mixed_s) < rnd.cutoff.num_wanted:
                gone_s.append(self.begin(rnd, client, job.at_s))
        if len(mixed_s) == rnd.cutoff.num_wanted:
            rnd.server.end_s = mixed_s[-1]
        else:  # at the deadline, or when the last of those that vanished would have delivered
            rnd.server.end_s = (
                rnd.cutoff.limit_s if rnd.cutoff.limit_s < float("inf") else max([rnd.begin_s, *mixed_s, *gone_s])
            )
        if mixed_s:
            rnd.notes["staleness"] = staleness / len(mixed_s)

    def begin(self, rnd: Round, client: int, at_s: float) -> float:
        """Starts a job; one of a client that vanishes in this round never arrives.

        Returns:
            When it arrives, or would have.
        """
        reply = rnd.ask("train", {client: Request(self.send(client), at_s)})[client]
        if client in rnd.cutoff.lost:
            rnd.late.add(client)
        else:
            loss = float(reply.message.options["loss"])  # type: ignore[arg-type]
            self.jobs[client] = Job(reply.at_s, self.version, loss, dict(reply.message.weights))
        return reply.at_s

    def mix(self, job: Job) -> None:
        """Takes an update in."""
        alpha = self.cfg.mixing * (1 + self.version - job.version) ** -self.cfg.staleness_power
        self.global_model.load(average([self.global_model.weights(), job.weights], [1 - alpha, alpha]))
        self.version += 1

    def extra(self) -> dict[str, Any]:
        """The version, and the updates on their way."""
        return {"version": self.version, "jobs": {client: asdict(job) for client, job in self.jobs.items()}}

    def load_extra(self, extra: dict[str, Any]) -> None:
        """Puts them back."""
        self.version = extra["version"]
        self.jobs = {client: Job(**job) for client, job in extra["jobs"].items()}
