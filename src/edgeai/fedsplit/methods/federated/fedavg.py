"""FedAvg: every client trains the whole model; the server averages the results.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017, algorithm 1.
Client: all layers, data, labels. Server: the average. Sent per client and round: N s bytes down, N s up.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeai.core.errors import UsageError
from edgeai.fedsplit.cuts.weights import average
from edgeai.fedsplit.methods.method import Method, Signature, weights_of
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.protocol.client_half import ClientHalf
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.part import Part, training_bytes
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.transport import Reply, Request


class FullClient(ClientHalf):
    """Client half that trains the whole model locally."""

    def on_train(self, message: Message) -> Message:
        """Load the weights, train for the round, and answer with the result."""
        self.begin(message)
        optim = self.optimizer("model")
        loss_sum, num_samples = 0.0, 0
        for _, x, y in self.batches():
            optim.zero_grad()
            loss_sum += float(self.backward_loss(x, y)) * len(x)
            self.correct()
            optim.step()
            num_samples += len(x)
        return self.answer(Message(weights=self.weights("model"), options={"loss": loss_sum / num_samples}))

    def backward_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Fill the gradients of a batch's mean loss; with DP-SGD, clipped and noisy ones.

        Returns:
            The loss, detached.
        """
        module, protect = self.parts["model"].module, self.context.protect
        self.count("model", len(x), forward=1, backward=1)
        if protect is None or not protect.is_dp:
            loss = F.cross_entropy(module(x), y)
            loss.backward()
            return loss.detach()
        with torch.no_grad():
            logits = module(x)
        loss = F.cross_entropy(logits.requires_grad_(), y)
        [gradient] = torch.autograd.grad(loss, [logits])
        protect.client_gradients(module, x, gradient)
        return loss.detach()

    def begin(self, message: Message) -> None:
        """Load the message from the server."""
        self.load("model", message.weights)

    def correct(self) -> None:
        """Hook for subclasses: modify the gradients before the optimizer step."""

    def answer(self, message: Message) -> Message:
        """Hook for subclasses: add to the answer."""
        return message


class FedAvg(Method):
    """Federated averaging."""

    client_half: type[ClientHalf] = FullClient
    is_split = False
    signature = Signature(weights_up=True, weights_down=True)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        for name in ("noise", "nopeek"):
            if getattr(setup.cfg.privacy, name) is not None:
                raise UsageError(
                    f"privacy.{name} acts on smashed data, but {self.cfg.kind} sends none",
                    hint="use privacy.dp_sgd, or a method that splits the model",
                )

    def client_parts(self, client: int) -> dict[str, Part]:
        """Return the whole model."""
        return {"model": self.fresh_part(0, len(self.setup.model))}

    def round(self, rnd: Round) -> None:
        """Send the model, train it on the clients, and average the results by n_k / n."""
        replies = rnd.accept(
            rnd.ask("train", {client: Request(self.send(client), rnd.begin_s) for client in rnd.clients})
        )
        note_losses(rnd, self.setup, replies)
        if replies:
            self.hold(rnd, len(replies))
            self.aggregate(replies)

    def send(self, client: int) -> Message:
        """Return the message that starts a client's round."""
        return Message(weights=self.global_model.weights())

    def hold(self, rnd: Round, num_models: int) -> None:
        """Record the server's memory: its model in training and `num_models` received ones."""
        cost = self.setup.model.cost(0, len(self.setup.model))
        rnd.server.hold(training_bytes(cost, self.setup.cfg.optim) + num_models * cost.weight_bytes)

    def aggregate(self, replies: dict[int, Reply]) -> None:
        """Update the global model from the received weights."""
        self.global_model.load(average(weights_of(replies), self.setup.shares(list(replies))))


def note_losses(rnd: Round, setup: Setup, replies: dict[int, Reply]) -> None:
    """Add the mean losses that the clients report."""
    for client, reply in replies.items():
        rnd.loss.add(reply.message.number("loss"), setup.num_samples[client])
