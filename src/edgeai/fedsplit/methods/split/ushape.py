"""U-shaped split learning: the client holds both ends of the model, so that labels and loss never leave it.

Vepakomma et al., "Split learning for health: Distributed deep learning without sharing raw patient data", 2018.
Client: the layers before the cut (head) and behind the server's part (tail), data, labels. Server: the layers between.
Sent per client and round: E n_k (q1 + q2) s each way, with q1 values per sample at the cut and q2 at the tail: z up, u
down, gradient of u up, gradient of z down; no labels; head and tail at each turn. This is relay split learning with
private labels: with plain SGD both yield the same weights to the bit.

Differs from the paper: nothing. A stateful optimizer (momentum, Adam) starts anew on each device, also for the tail,
where relay keeps the state of the server's part during a round; with one the two differ. Head and tail are passed on by
turns; the averaged variant of FeSTA and FedBERT is not implemented.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.split import UShapeConfig
from edgeai.fedsplit.cuts.weights import Weights
from edgeai.fedsplit.methods.method import Signature
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.split.middle_server import Stretch, further_cuts
from edgeai.fedsplit.methods.split.relay import Exchange, Relay
from edgeai.fedsplit.protocol.client_half import ClientContext, SplitClient
from edgeai.fedsplit.protocol.message import EMPTY, Message
from edgeai.fedsplit.protocol.part import Part
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.transport import Reply, Request


class UClient(SplitClient):
    """Head and tail. `step` sends z of the next batch; `finish` takes u and sends its gradient."""

    role = "head"

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        super().__init__(context, parts)
        self.tail_optim = self.optimizer("tail")
        self._y: Tensor | None = None

    def on_load(self, message: Message) -> None:
        """Load both ends."""
        for role in ("head", "tail"):
            names = self.parts[role].module.state_dict()
            self.load(role, {name: message.weights[name] for name in names})

    def on_step(self, message: Message) -> Message:
        """Apply a gradient and send the next batch without its labels, which stay unchanged by `privacy.labels`."""
        self.apply(message)
        batch = self.batch()
        if batch is None:
            return EMPTY
        indices, x, _ = batch
        self._y = self.context.samples.y[indices]
        return Message(activations={"z": self.smash(x)})

    def on_finish(self, message: Message) -> Message:
        """Compute the loss and train the tail."""
        assert self._y is not None, "u was received before any batch was sent"
        u = message.activations["u"].detach().requires_grad_()
        loss = F.cross_entropy(self.parts["tail"].module(u), self._y)
        self.tail_optim.zero_grad()
        loss.backward()
        self.tail_optim.step()
        self._count_both(len(u))
        gradient = u.grad
        assert gradient is not None
        return Message(gradients={"u": gradient}, options={"loss": float(loss.detach())})

    def on_unload(self, message: Message) -> Message:
        """Apply the last gradient, then answer with the weights of both ends."""
        self.apply(message)
        return Message(weights={**self.weights("head"), **self.weights("tail")})

    def _count_both(self, num_samples: int) -> None:
        """Count the tail's passes, during which the head's saved tensors stay in memory."""
        before = self.peak_bytes
        self.peak_bytes = 0
        self.count("tail", num_samples, forward=1, backward=1)
        held_bytes = int(num_samples * self.parts["head"].cost.saved_bytes)
        self.peak_bytes = max(before, self.peak_bytes + held_bytes)


class UShape(Relay):
    """Relay split learning with labels and loss on the client."""

    cfg: UShapeConfig
    client_half = UClient
    signature = Signature(
        activations_up=True,
        gradients_down=True,
        activations_down=True,
        gradients_up=True,
        weights_up=True,
        weights_down=True,
    )

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        [self.tail] = further_cuts(setup, [self.cfg.tail], "method.tail")
        if setup.cfg.privacy.dp_sgd is not None:
            raise UsageError(
                "privacy.dp_sgd protects the layers before the cut, but with method ushape the client trains the "
                "tail too",
                hint="leave privacy.dp_sgd empty, or choose method relay",
            )

    def client_parts(self, client: int) -> dict[str, Part]:
        """Return both ends."""
        ends = {"head": (0, self.setup.positions[client]), "tail": (self.tail, len(self.setup.model))}
        return {role: self.fresh_part(*positions) for role, positions in ends.items()}

    def client_weights(self, client: int) -> Weights:
        """Return the weights of both ends."""
        model = self.global_model
        return {**model.weights(0, self.setup.positions[client]), **model.weights(self.tail)}

    def open(self, rnd: Round) -> Exchange:
        """Build the server's middle part; return the function that serves one batch."""
        middle = Stretch(self.global_model, self.setup.first, self.tail, self.setup.cfg.optim)
        rnd.server.hold(middle.memory_bytes(self.setup.cfg.batch))
        return lambda reply: self.exchange(rnd, middle, reply)

    def exchange(self, rnd: Round, middle: Stretch, reply: Reply) -> Request:
        """Pass a batch through the middle, have the client run the tail, and pass the gradient back."""
        client, z = reply.client, reply.message.activations["z"]
        position = self.setup.positions[client]
        forward, backward = middle.flops(len(z), position)
        u = middle.forward(z, position)
        answer = rnd.ask_one(client, "finish", Message(activations={"u": u}), rnd.server.work(forward, reply.at_s))
        rnd.loss.add(answer.message.number("loss"), len(z))
        gradient = middle.backward(answer.message.gradients["u"])
        return Request(Message(gradients={"z": gradient}), rnd.server.work(backward, answer.at_s))
