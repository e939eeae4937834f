"""MergeSFL: merged batches with per-client batch sizes set by speed, and clients selected for balanced labels.

Liao et al., "MergeSFL: Split Federated Learning with Feature Merging and Batch Size Regulation", ICDE 2024 (arXiv
2311.13348). Client: the layers before its cut, data. Server: one half, trained on the merged batch; it knows each
client's label histogram and expected time per sample.
A round: batch sizes are set inversely proportional to that time, with the configured size as their mean; clients are
selected so that the merged batch has the class proportions of all data; they train in lock-step; their parts are
averaged, weighted by batch size. The number of steps is the same for all clients, and such that together they process
as many samples as they have: fast clients pass over theirs more than once. Sent per selected client, with batch size b:
steps b (q s + l) up, steps b q s down, and the client part both ways; 8 bytes per class up, once, from every client.

Differs from the paper: selection is greedy, starting with the client selected least often and adding the client that
lowers the Kullback-Leibler divergence most; the paper uses a genetic algorithm, and also caps the server's incoming
traffic. Times are expected values from devices and links, not moving averages of measurements. Batch sizes are not
tuned further after the selection.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.hybrid import MergeSFLConfig
from edgeai.fedsplit.methods.expected_time import seconds_per_sample
from edgeai.fedsplit.methods.method import Method, Signature
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.split.psl import merged_step
from edgeai.fedsplit.methods.weight_exchange import average_whole_models, server_weights
from edgeai.fedsplit.protocol.client_half import SplitClient
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Request


class MergeClient(SplitClient):
    """Client half with a batch size and a number of steps set by the server."""

    def on_describe(self, message: Message) -> Message:
        """Answer with the histogram of the protected labels."""
        y = self.context.samples.y
        if self.context.protect is not None:
            y = self.context.protect.labels(torch.arange(len(y)), y)
        num_classes = int(message.number("num_classes"))
        return Message(side={"histogram": torch.bincount(y, minlength=num_classes)})

    def on_load(self, message: Message) -> None:
        """Load weights, batch size and number of steps."""
        super().on_load(message)
        batch, steps = (int(message.number(name)) for name in ("batch", "steps"))
        epochs = math.ceil(steps / math.ceil(len(self.context.samples) / batch))
        self.context = replace(self.context, batch=batch, epochs=epochs)
        self._order = self._batches()


class MergeSFL(Method):
    """Merged-batch split learning with adaptive batch sizes and client selection."""

    cfg: MergeSFLConfig
    client_half = MergeClient
    signature = Signature(
        activations_up=True, gradients_down=True, labels_up=True, weights_up=True, weights_down=True, side_up=True
    )

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if setup.cfg.privacy.dp_sgd is not None:
            raise UsageError(
                "privacy.dp_sgd counts batches of one size, but method mergesfl changes them",
                hint="leave privacy.dp_sgd empty, or choose method psl",
            )
        self.histograms: dict[int, list[int]] = {}
        self.num_chosen: dict[int, int] = {}

    def round(self, rnd: Round) -> None:
        """Set batch sizes, select clients, train in lock-step, and average by batch size."""
        at_s = self.learn_histograms(rnd)
        sizes = batch_sizes(self.setup, rnd.clients, self.cfg.max_batch_factor)
        clients = self.choose(rnd.clients, sizes)
        samples = [self.setup.num_samples[client] for client in clients]
        per_step = sum(sizes[client] for client in clients)
        num_steps = max(1, round(self.setup.cfg.local_epochs * sum(samples) / per_step))
        server = ServerHalf(self.global_model.copy(), self.setup.first, self.setup.cfg.optim)
        rnd.server.hold(server.memory_bytes(per_step))
        requests = self.start(rnd, {client: sizes[client] for client in clients}, num_steps, at_s)
        for _ in range(num_steps):
            requests = merged_step(rnd, self.setup, server, rnd.ask("step", requests), rescale=True)
        replies = rnd.accept(rnd.ask("unload", requests))
        if replies:
            counted = sum(sizes[client] for client in replies)
            shares = [sizes[client] / counted for client in replies]
            served = server_weights(dict.fromkeys(replies, server))
            self.global_model.load(average_whole_models(self.setup, replies, served, shares))

    def learn_histograms(self, rnd: Round) -> float:
        """Request missing label histograms; return the time at which all have arrived."""
        message = Message(options={"num_classes": self.setup.num_classes})
        unknown = [client for client in rnd.clients if client not in self.histograms]
        replies = rnd.ask("describe", {client: Request(message, rnd.begin_s) for client in unknown})
        for client, reply in replies.items():
            self.histograms[client] = reply.message.side["histogram"].tolist()
        return max((reply.at_s for reply in replies.values()), default=rnd.begin_s)

    def choose(self, clients: Sequence[int], sizes: Mapping[int, int]) -> list[int]:
        """Select the clients of a round, in ascending order."""
        num = max(1, round(self.cfg.select_frac * len(clients)))
        rest = sorted(clients, key=lambda client: (self.num_chosen.get(client, 0), client))
        chosen = [rest.pop(0)]
        while len(chosen) < num:
            gains = [divergence([*chosen, client], sizes, self.histograms) for client in rest]
            chosen.append(rest.pop(int(np.argmin(gains))))
        for client in chosen:
            self.num_chosen[client] = self.num_chosen.get(client, 0) + 1
        return sorted(chosen)

    def start(self, rnd: Round, sizes: Mapping[int, int], num_steps: int, at_s: float) -> dict[int, Request]:
        """Send the client parts with batch sizes; return the request that starts each client."""
        messages = {}
        for client, size in sizes.items():
            weights = self.global_model.weights(0, self.setup.positions[client])
            messages[client] = Request(Message(weights=weights, options={"batch": size, "steps": num_steps}), at_s)
        return {client: Request(at_s=arrived_s) for client, arrived_s in rnd.tell("load", messages).items()}

    def extra(self) -> dict[str, Any]:
        """Return the label histograms and selection counts."""
        return {"histograms": dict(self.histograms), "num_chosen": dict(self.num_chosen)}

    def load_extra(self, extra: dict[str, Any]) -> None:
        """Restore what `extra` returned."""
        self.histograms, self.num_chosen = dict(extra["histograms"]), dict(extra["num_chosen"])


def batch_sizes(setup: Setup, clients: Sequence[int], max_factor: float) -> dict[int, int]:
    """Return batch sizes inversely proportional to the time per sample, with the configured size as their mean.

    Args:
        setup: Devices, links, cuts, sample counts and the configured batch size.
        clients: Clients of the round.
        max_factor: Largest ratio of a batch size to the configured one, and of the configured one to it.
    """
    batch = setup.cfg.batch
    speeds = np.array([1 / seconds_per_sample(setup, client) for client in clients])
    wanted = np.clip(batch * speeds / speeds.mean(), batch / max_factor, batch * max_factor)
    return {
        client: max(1, min(round(float(size)), setup.num_samples[client]))
        for client, size in zip(clients, wanted, strict=True)
    }


def divergence(clients: Sequence[int], sizes: Mapping[int, int], histograms: Mapping[int, Sequence[int]]) -> float:
    """Return the KL divergence (nats) of a merged batch's class shares from those of all known samples."""
    everything = np.sum(list(histograms.values()), axis=0)
    merged = np.sum([sizes[k] * np.array(histograms[k]) / sum(histograms[k]) for k in clients], axis=0)
    p, q = merged / merged.sum(), everything / everything.sum()
    is_present = p > 0
    return float((p[is_present] * np.log(p[is_present] / q[is_present])).sum())
