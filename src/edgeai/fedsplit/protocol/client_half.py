"""The client half of a model: what runs on a device during one round.

x [b, ...] samples, y [b] labels, z [b, ...] smashed data at the cut, g [b, ...] gradient of the batch's mean loss at z.
A client half knows nothing of transports, bytes or time. It counts the FLOPs it computes and the memory it holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from edgeai.fedsplit.config.optim import OptimConfig
from edgeai.fedsplit.cuts.weights import Weights, clone
from edgeai.fedsplit.data.samples import Samples
from edgeai.fedsplit.protocol.batching import derived_seed, num_batches, permuted
from edgeai.fedsplit.protocol.message import EMPTY, Message
from edgeai.fedsplit.protocol.part import Part, build_optimizer, training_bytes
from edgeai.fedsplit.protocol.protection import Protection

State = dict[str, Tensor]
"""Tensors that a device keeps between rounds, by name."""


@dataclass(frozen=True)
class ClientContext:
    """Per-round client context: data, batching, optimizer and protection."""

    client: int
    round: int
    seed: int
    samples: Samples
    batch: int
    epochs: int
    optim: OptimConfig
    protect: Protection | None = None
    is_random: bool = False
    """The model itself draws random numbers (dropout)."""
    kept: State = field(default_factory=dict)
    """State that the device kept from earlier rounds."""


class Batch(NamedTuple):
    """One training batch."""

    indices: Tensor
    """Rows within the client's samples, int64 [b]."""
    x: Tensor
    y: Tensor
    """Labels after label protection."""


class ClientHalf:
    """The work of one device in one round. Methods subclass it with handlers `on_<op>`.

    A handler takes the request's message and returns one message, an iterator of messages, or None for no answer.

    Args:
        context: Samples, batching, optimizer and protection.
        parts: Modules by role. The device owns their weights.
    """

    first_epoch = 0
    """Number of the first sample order. Distinguishes repeated training within one round."""

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        self.context, self.parts = context, dict(parts)
        self.kept: State = dict(context.kept)
        self.flops = 0.0
        """FLOPs since the last `take_flops`."""
        self.peak_bytes = 0
        """Peak memory so far: parts in training plus the tensors that autograd saved."""
        self.held_bytes = 0
        """Share of the peak that is held while the server computes."""
        self._static_bytes = sum(training_bytes(part.cost, context.optim) for part in self.parts.values())
        self._order = self._batches()
        self._num_ops = 0

    def handle(self, op: str, message: Message) -> Iterator[Message]:
        """Run one request and yield its answers; each can be sent as soon as it is computed."""
        self._reseed()
        answer = getattr(self, f"on_{op}")(message)
        if isinstance(answer, Message):
            yield answer
        elif answer is not None:
            for one in answer:
                yield one
                self._reseed()  # other devices may have drawn random numbers in between

    def take_flops(self) -> float:
        """Return the FLOPs computed since the last call, and reset the count."""
        flops, self.flops = self.flops, 0.0
        return flops

    def optimizer(self, *roles: str) -> torch.optim.Optimizer:
        """Return a new optimizer over the parts with these roles."""
        parameters = [parameter for role in roles for parameter in self.parts[role].module.parameters()]
        return build_optimizer(parameters, self.context.optim)

    def load(self, role: str, weights: Mapping[str, Tensor]) -> None:
        """Load the weights of one part. All of its weights must be given."""
        self.parts[role].module.load_state_dict(weights)

    def weights(self, role: str) -> Weights:
        """Return a copy of one part's weights."""
        return clone(self.parts[role].module.state_dict())

    def batch(self) -> Batch | None:
        """Return the next batch of this round, or None after the last."""
        indices = next(self._order, None)
        if indices is None:
            return None
        y = self.context.samples.y[indices]
        if self.context.protect is not None:
            y = self.context.protect.labels(indices, y)
        return Batch(indices, self.context.samples.x[indices], y)

    def batches(self) -> Iterator[Batch]:
        """Yield the remaining batches of this round."""
        while (batch := self.batch()) is not None:
            yield batch

    @property
    def num_batches(self) -> int:
        """Number of batches in a whole round."""
        return num_batches(len(self.context.samples.y), self.context.batch, self.context.epochs)

    def count(self, role: str, num_samples: int, *, forward: int = 0, backward: int = 0, held: bool = False) -> None:
        """Count the FLOPs and the memory of passes through one part.

        Args:
            role: Role of the part.
            num_samples: Samples in each pass.
            forward: Number of forward passes.
            backward: Number of backward passes.
            held: Whether the saved tensors stay in memory while the server computes.
        """
        cost = self.parts[role].cost
        self.flops += num_samples * (forward * cost.forward_flops + backward * cost.backward_flops)
        if forward:
            saved_bytes = round(num_samples * cost.saved_bytes)
            self.peak_bytes = max(self.peak_bytes, self._static_bytes + saved_bytes)
            if held:
                self.held_bytes = max(self.held_bytes, saved_bytes)

    def _reseed(self) -> None:
        """Seed the model's own random numbers by the number of computing steps so far in this round."""
        if self.context.is_random:
            self._num_ops += 1
            context = self.context
            torch.manual_seed(derived_seed(context.seed, context.round, context.client, self._num_ops, 2))

    def _batches(self) -> Iterator[Tensor]:
        """Return the sample indices of each batch of the round."""
        return _shuffled(self.context, self.first_epoch)


def _shuffled(context: ClientContext, first_epoch: int) -> Iterator[Tensor]:
    """Yield the indices of each batch: one permutation per local epoch.

    This is a function, not a method: a generator that references its client half would keep half and data alive as
    a reference cycle.
    """
    for epoch in range(first_epoch, first_epoch + context.epochs):
        seed = derived_seed(context.seed, context.round, context.client, epoch, 1)
        yield from permuted(len(context.samples.y), context.batch, seed)


@dataclass
class Pending:
    """A batch that still waits for its gradient."""

    x: Tensor
    z: Tensor
    """Smashed data as sent, with their autograd graph."""
    extra_loss: Tensor | None
    """Additional loss of the device, such as NoPeek's."""


class SplitClient(ClientHalf):
    """The layers before the cut, trained with the server's gradients: one exchange per batch.

    `step` applies the gradient of the pending batch, if there is one, and answers with the next batch, or with an empty
    message after the last. `unload` applies the last gradient and answers with the weights.
    """

    role = "client"
    waits: ClassVar[bool] = True
    """Whether the saved tensors are held while the server computes; False if the server sends no gradient."""

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        super().__init__(context, parts)
        self.optim = self.optimizer(self.role)
        self.pending: Pending | None = None

    def on_load(self, message: Message) -> None:
        """Load the weights. There is no answer."""
        self.load(self.role, message.weights)

    def on_step(self, message: Message) -> Message:
        """Apply a gradient, then answer with the next batch."""
        self.apply(message)
        batch = self.batch()
        if batch is None:
            return EMPTY
        return Message(activations={"z": self.smash(batch.x)}, labels={"y": batch.y})

    def on_unload(self, message: Message) -> Message:
        """Apply the last gradient, then answer with the weights."""
        self.apply(message)
        return Message(weights=self.weights(self.role))

    def smash(self, x: Tensor) -> Tensor:
        """Run the layers before the cut and remember the batch as pending.

        Returns:
            Protected z, without its autograd graph.
        """
        protect = self.context.protect
        z = self.parts[self.role].module(x)
        self.count(self.role, len(x), forward=1, held=self.waits)
        extra = None
        if protect is not None:
            z = protect.smashed(z)
            extra = protect.extra_loss(x, z)
        self.pending = Pending(x, z, extra)
        return z.detach()

    def smash_only(self, x: Tensor) -> Tensor:
        """Return protected z without training on this pass."""
        with torch.no_grad():
            z: Tensor = self.parts[self.role].module(x)
            return z if self.context.protect is None else self.context.protect.smashed(z)

    def take_pending(self) -> Pending:
        """Return the pending batch and clear it."""
        assert self.pending is not None, "no batch is waiting for a gradient"
        pending, self.pending = self.pending, None
        return pending

    def apply(self, message: Message) -> None:
        """Train on the gradient of the pending batch, if the message has one."""
        if "z" not in message.gradients:
            return
        pending = self.take_pending()
        self.optim.zero_grad()
        self.backward(pending, message.gradients["z"])
        self.count(self.role, len(pending.x), backward=1)
        self.optim.step()

    def backward(self, pending: Pending, gradient: Tensor) -> None:
        """Fill the gradients of the layers before the cut."""
        protect = self.context.protect
        if protect is not None and protect.is_dp:
            protect.client_gradients(self.parts[self.role].module, pending.x, gradient)
        elif pending.extra_loss is None:
            pending.z.backward(gradient)
        else:
            torch.autograd.backward([pending.z, pending.extra_loss], [gradient, torch.ones_like(pending.extra_loss)])


class PrivateClient(SplitClient):
    """Layers before the cut that never leave the device: `end` replaces `load` and `unload`."""

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        super().__init__(context, parts)
        if self.kept:
            self.load(self.role, self.kept)

    def on_end(self, message: Message) -> None:
        """Apply the last gradient and keep the weights on the device."""
        self.apply(message)
        self.kept = self.weights(self.role)
