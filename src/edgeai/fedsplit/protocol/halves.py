"""The two halves of a split model: what runs on a device, and what runs at the server.

x [b, ...] samples, y [b] labels, z [b, ...] smashed data at the cut, g [b, ...] gradient of the batch's mean loss at z.
Halves know nothing of transports, bytes or time. A client half says what it computed as FLOPs and held as bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.fedsplit.config.run import OptimConfig
from edgeai.fedsplit.cuts.meter import PartCost
from edgeai.fedsplit.cuts.split_model import SplitModel, Weights, clone
from edgeai.fedsplit.data.samples import Samples
from edgeai.fedsplit.privacy.protection import Protect
from edgeai.fedsplit.protocol.message import EMPTY, Message

State = dict[str, Tensor]
"""What a device keeps between rounds."""


def derived_seed(*words: int) -> int:
    """A seed for one purpose, the same on every machine and independent of what was drawn before."""
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def build_optimiser(
    parameters: Iterable[nn.Parameter], cfg: OptimConfig, *, lr_scale: float = 1.0
) -> torch.optim.Optimizer:
    """The optimiser that a config asks for."""
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    lr = cfg.lr * lr_scale
    if cfg.kind == "adam":
        return torch.optim.Adam(trainable, lr=lr, weight_decay=cfg.weight_decay)
    return torch.optim.SGD(trainable, lr=lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay)


def static_bytes(cost: PartCost, cfg: OptimConfig) -> int:
    """Weights, gradients and optimiser state of a part in training."""
    slots = 2 if cfg.kind == "adam" else 1 if cfg.momentum else 0
    return cost.weight_bytes + 4 * cost.num_trainable * (1 + slots)


@dataclass
class Part:
    """A module on a device or at the server, and what it costs a sample."""

    module: nn.Module
    cost: PartCost


@dataclass(frozen=True)
class Kit:
    """What a device has at hand in one round."""

    client: int
    round: int
    seed: int
    samples: Samples
    batch: int
    epochs: int
    optim: OptimConfig
    protect: Protect | None = None
    is_random: bool = False
    """The model draws random numbers itself (dropout)."""
    kept: State = field(default_factory=dict)
    """What the device kept from earlier rounds."""


class ClientHalf:
    """What one device does in one round. A method says what by `on_<op>`, which answers with one or more messages.

    Args:
        kit: Samples, batches, optimiser settings.
        parts: Modules by role, with weights of their own.
    """

    first_epoch = 0
    """Orders of samples are numbered from here: it tells apart what a device does twice in one round."""

    def __init__(self, kit: Kit, parts: Mapping[str, Part]) -> None:
        self.kit, self.parts = kit, dict(parts)
        self.kept: State = dict(kit.kept)
        self.flops = 0.0
        """Computed since it was last asked."""
        self.peak_bytes = 0
        """Largest memory held at once so far: parts in training and what autograd saved."""
        self.held_bytes = 0
        """Of that, what is held while the server has its turn."""
        self._static_bytes = sum(static_bytes(part.cost, kit.optim) for part in self.parts.values())
        self._order = self._batches()
        self._num_ops = 0

    def handle(self, op: str, message: Message) -> Iterator[Message]:
        """Does what is asked, and answers; each answer can leave as soon as it is there."""
        self._draw_anew()
        answer = getattr(self, f"on_{op}")(message)
        if isinstance(answer, Message):
            yield answer
        elif answer is not None:
            for one in answer:
                yield one
                self._draw_anew()  # others may have drawn meanwhile

    def take_flops(self) -> float:
        """What was computed since the last call."""
        flops, self.flops = self.flops, 0.0
        return flops

    def optimiser(self, *roles: str) -> torch.optim.Optimizer:
        """A new optimiser over parts of this device."""
        parameters = [parameter for role in roles for parameter in self.parts[role].module.parameters()]
        return build_optimiser(parameters, self.kit.optim)

    def load(self, role: str, weights: Mapping[str, Tensor]) -> None:
        """Takes over weights for one part; all of its weights must be named."""
        self.parts[role].module.load_state_dict(weights)

    def weights(self, role: str) -> Weights:
        """A copy of one part's weights."""
        return clone(self.parts[role].module.state_dict())

    def batch(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """The next batch of this round: indices, x, and y as the device gives it away; None at the end."""
        indices = next(self._order, None)
        if indices is None:
            return None
        y = self.kit.samples.y[indices]
        if self.kit.protect is not None:
            y = self.kit.protect.labels(indices, y)
        return indices, self.kit.samples.x[indices], y

    def batches(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """What is left of this round's batches."""
        while (batch := self.batch()) is not None:
            yield batch

    @property
    def num_batches(self) -> int:
        """Batches of a whole round."""
        return num_batches(len(self.kit.samples.y), self.kit.batch, self.kit.epochs)

    def count(self, role: str, num_samples: int, *, forward: int = 0, backward: int = 0, held: bool = False) -> None:
        """Counts passes of a part.

        Args:
            role: Which part.
            num_samples: In each pass.
            forward: Number of forward passes.
            backward: Number of backward passes.
            held: The saved tensors stay while the server computes.
        """
        cost = self.parts[role].cost
        self.flops += num_samples * (forward * cost.forward_flops + backward * cost.backward_flops)
        if forward:
            saved_bytes = round(num_samples * cost.saved_bytes)
            self.peak_bytes = max(self.peak_bytes, self._static_bytes + saved_bytes)
            if held:
                self.held_bytes = max(self.held_bytes, saved_bytes)

    def _draw_anew(self) -> None:
        """Seeds what the model draws itself by the number of the stretch of computing that begins."""
        if self.kit.is_random:
            self._num_ops += 1
            torch.manual_seed(derived_seed(self.kit.seed, self.kit.round, self.kit.client, self._num_ops, 2))

    def _batches(self) -> Iterator[Tensor]:
        """Rows of each batch of the round."""
        return shuffled(self.kit, self.first_epoch)


def shuffled(kit: Kit, first_epoch: int = 0) -> Iterator[Tensor]:
    """A permutation of the samples for each local epoch, cut into batches; the last one may be short.

    A function of its own, because a generator that knew its half would keep half and data alive as a cycle.

    Args:
        kit: Samples, seed and sizes.
        first_epoch: Number of the first order: tells apart what a device does twice in one round.
    """
    for epoch in range(first_epoch, first_epoch + kit.epochs):
        generator = torch.Generator().manual_seed(derived_seed(kit.seed, kit.round, kit.client, epoch, 1))
        yield from torch.randperm(len(kit.samples.y), generator=generator).split(kit.batch)


def num_batches(num_samples: int, batch: int, epochs: int) -> int:
    """Steps of one round."""
    return epochs * -(-num_samples // batch)


@dataclass
class Pending:
    """A batch whose gradient has not come back yet."""

    x: Tensor
    z: Tensor
    """As sent, with its graph."""
    extra_loss: Tensor | None
    """A loss of the device's own, such as NoPeek's."""


class SplitClient(ClientHalf):
    """The layers before the cut, trained with true gradients: one exchange a batch.

    `step` applies the gradient of the pending batch, if one comes, and answers with the next batch, or with nothing
    after the last. `unload` applies the last gradient and answers with the weights.
    """

    role = "client"
    waits: ClassVar[bool] = True
    """What autograd saved is held while the server has its turn; false where no gradient comes from there."""

    def __init__(self, kit: Kit, parts: Mapping[str, Part]) -> None:
        super().__init__(kit, parts)
        self.optim = self.optimiser(self.role)
        self.pending: Pending | None = None

    def on_load(self, message: Message) -> None:
        """Takes over the weights; there is no answer."""
        self.load(self.role, message.weights)

    def on_step(self, message: Message) -> Message:
        """One exchange of the training."""
        self.apply(message)
        batch = self.batch()
        if batch is None:
            return EMPTY
        _, x, y = batch
        return Message(activations={"z": self.smash(x)}, labels={"y": y})

    def on_unload(self, message: Message) -> Message:
        """Ends the round with the weights."""
        self.apply(message)
        return Message(weights=self.weights(self.role))

    def smash(self, x: Tensor) -> Tensor:
        """Runs the layers before the cut, and remembers the batch.

        Returns:
            z without its graph, protected as the config asks.
        """
        protect = self.kit.protect
        z = self.parts[self.role].module(x)
        self.count(self.role, len(x), forward=1, held=self.waits)
        extra = None
        if protect is not None:
            z = protect.smashed(z)
            extra = protect.extra_loss(x, z)
        self.pending = Pending(x, z, extra)
        return z.detach()

    def apply(self, message: Message) -> None:
        """Steps on the gradient of the pending batch, if the message brings one."""
        if "z" not in message.gradients:
            return
        assert self.pending is not None, "a gradient came before any activation was sent"
        pending, self.pending = self.pending, None
        self.optim.zero_grad()
        self.backward(pending, message.gradients["z"])
        self.count(self.role, len(pending.x), backward=1)
        self.optim.step()

    def backward(self, pending: Pending, gradient: Tensor) -> None:
        """Fills the gradients of the layers before the cut."""
        protect = self.kit.protect
        if protect is not None and protect.is_dp:
            protect.client_gradients(self.parts[self.role].module, pending.x, gradient)
        elif pending.extra_loss is None:
            pending.z.backward(gradient)
        else:
            torch.autograd.backward([pending.z, pending.extra_loss], [gradient, torch.ones_like(pending.extra_loss)])


class PrivateClient(SplitClient):
    """Layers before the cut that never leave the device: `end` takes the place of `load` and `unload`."""

    def __init__(self, kit: Kit, parts: Mapping[str, Part]) -> None:
        super().__init__(kit, parts)
        if self.kept:
            self.load(self.role, self.kept)

    def on_end(self, message: Message) -> None:
        """Ends the round; the weights stay."""
        self.apply(message)
        self.kept = self.weights(self.role)


@dataclass(frozen=True)
class Step:
    """One step of the server's half."""

    loss: Tensor
    """Mean over the batch, detached."""
    gradients: Mapping[int, Tensor]
    """At each cut by its position, of that mean."""
    flops: float

    @property
    def gradient(self) -> Tensor:
        """Where there was one cut."""
        [gradient] = self.gradients.values()
        return gradient


class ServerHalf:
    """The layers behind the cut, with their optimiser. One half may serve several cuts.

    Args:
        model: The whole model, of which this half uses the layers behind the cuts; its own copy.
        first: Position of the shallowest cut.
        optim: Of the layers behind it.
        lr_scale: Multiplies the learning rate.
    """

    def __init__(self, model: SplitModel, first: int, optim: OptimConfig, *, lr_scale: float = 1.0) -> None:
        self.model, self.first = model, first
        self._tails: dict[int, nn.Sequential] = {}
        self.optim = build_optimiser(self.tail(first).parameters(), optim, lr_scale=lr_scale)
        self._optim_cfg = optim

    def tail(self, position: int) -> nn.Sequential:
        """The layers behind a cut."""
        if position not in self._tails:
            self._tails[position] = self.model.part(position, len(self.model))
        return self._tails[position]

    def cost(self, position: int) -> PartCost:
        """Of the layers behind a cut."""
        return self.model.cost(position, len(self.model))

    def memory_bytes(self, num_samples: int) -> int:
        """Of the half in training, with what autograd saves for so many samples at once."""
        cost = self.cost(self.first)
        return static_bytes(cost, self._optim_cfg) + round(num_samples * cost.saved_bytes)

    def step(self, position: int, z: Tensor, y: Tensor) -> Step:
        """Forward, loss, backward and a step of the optimiser (Vepakomma et al. 2018).

        Args:
            position: Of the client's cut.
            z: [b, ...] as received.
            y: [b].
        """
        return self.step_merged({position: z}, {position: y})

    def step_merged(self, inputs: Mapping[int, Tensor], labels: Mapping[int, Tensor]) -> Step:
        """The same for one merged batch whose samples enter at several cuts.

        Args:
            inputs: z [b_p, ...] by position of the cut.
            labels: y [b_p] by position.
        """
        leaves = {position: z.detach().requires_grad_() for position, z in inputs.items()}
        self.optim.zero_grad()
        logits = [self.tail(position)(z) for position, z in leaves.items()]
        loss = F.cross_entropy(logits[0] if len(logits) == 1 else torch.cat(logits), torch.cat(list(labels.values())))
        loss.backward()
        self.optim.step()
        flops = sum(len(z) * self.cost(position).train_flops for position, z in leaves.items())
        gradients = {position: z.grad for position, z in leaves.items() if z.grad is not None}
        return Step(loss.detach(), gradients, flops)

    def weights(self) -> Weights:
        """The weights behind the shallowest cut, not copied."""
        return self.model.weights(self.first)
