"""FedAsync: asynchronous aggregation; each update is mixed in on arrival, weighted by its staleness.

Xie et al., "Asynchronous Federated Optimization", 2019, algorithm 1 with polynomial staleness.
Client: all layers, data, labels. Server: the model and its version, the number of updates mixed in so far.
Sent per job: N s bytes down, N s up.

A job is one local training. It starts from the model of version v; when it arrives at version t, the model becomes
(1 - alpha) w + alpha w_new with alpha = mixing (1 + t - v)^-a. A device starts its next job as soon as it has
delivered. A round ends when as many updates have arrived as clients take part in it; jobs in progress continue in the
next round. Time and energy count in the round in which they occur, the bytes of an update in the round that started its
job.

Differs from the paper: an available device is never idle, where the paper's scheduler triggers jobs at random; no
proximal term. Availability is drawn anew in each round and applies to the start of a job. A client's sample order is
seeded by the round in which the job starts and the number of its earlier jobs in that round.
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
    """Runs one or more jobs per round, each with its own sample order."""

    def on_train(self, message: Message) -> Message:
        """Run one job."""
        self._order = self._batches()
        answer = super().on_train(message)
        self.first_epoch += self.context.epochs
        return answer


@dataclass(frozen=True)
class Job:
    """An update in transit."""

    at_s: float
    """Arrival time."""
    version: int
    """Version of the model that it started from."""
    loss: float
    weights: Weights


class FedAsync(FedAvg):
    """Asynchronous federated averaging."""

    cfg: FedAsyncConfig
    client_half = AsyncClient
    carries_over = True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.version = 0
        self.jobs: dict[int, Job] = {}
        """Jobs in progress, by client."""

    def round(self, rnd: Round) -> None:
        """Start idle devices; mix in updates until enough have arrived or the deadline has passed."""
        self.hold(rnd, 1)
        due_s = [self.begin(rnd, client, rnd.begin_s) for client in rnd.clients if client not in self.jobs]
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
                due_s.append(self.begin(rnd, client, job.at_s))
        if len(mixed_s) == rnd.cutoff.num_wanted:
            rnd.server.end_s = mixed_s[-1]
        else:  # at the deadline, or when the last lost reply is due
            rnd.server.end_s = (
                rnd.cutoff.limit_s if rnd.cutoff.limit_s < float("inf") else max([rnd.begin_s, *mixed_s, *due_s])
            )
        if mixed_s:
            rnd.notes["staleness"] = staleness / len(mixed_s)

    def begin(self, rnd: Round, client: int, at_s: float) -> float:
        """Start a job; that of a client lost in this round never arrives.

        Returns:
            Arrival time, also of a lost job.
        """
        reply = rnd.ask("train", {client: Request(self.send(client), at_s)})[client]
        if client in rnd.cutoff.lost:
            rnd.late.add(client)
        else:
            loss = reply.message.number("loss")
            self.jobs[client] = Job(reply.at_s, self.version, loss, dict(reply.message.weights))
        return reply.at_s

    def mix(self, job: Job) -> None:
        """Mix an update into the model."""
        alpha = self.cfg.mixing * (1 + self.version - job.version) ** -self.cfg.staleness_power
        self.global_model.load(average([self.global_model.weights(), job.weights], [1 - alpha, alpha]))
        self.version += 1

    def extra(self) -> dict[str, Any]:
        """Return the version and the updates in transit."""
        return {"version": self.version, "jobs": {client: asdict(job) for client, job in self.jobs.items()}}

    def load_extra(self, extra: dict[str, Any]) -> None:
        """Restore what `extra` returned."""
        self.version = extra["version"]
        self.jobs = {client: Job(**job) for client, job in extra["jobs"].items()}
