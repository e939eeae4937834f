"""FedAvg: every client trains the whole model, the server averages.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017, algorithm 1.
Client: all layers, data, labels. Server: the average. Crosses, per client and round: N s bytes down, N s up.
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
    """A device that trains the whole model on its own."""

    def on_train(self, message: Message) -> Message:
        """Takes over the weights, trains for the round, and answers with the result."""
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
        """Fills the gradients of a batch's mean loss; under DP-SGD they are clipped and noisy.

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
        """Takes over what came down; variants take more."""
        self.load("model", message.weights)

    def correct(self) -> None:
        """For variants: a change of the gradients before the step."""

    def answer(self, message: Message) -> Message:
        """For variants: what else goes up."""
        return message


class FedAvg(Method):
    """See the head of this file."""

    client_half: type[ClientHalf] = FullClient
    is_split = False
    signature = Signature(weights_up=True, weights_down=True)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        for name in ("noise", "nopeek"):
            if getattr(setup.cfg.privacy, name) is not None:
                raise UsageError(
                    f"privacy.{name} acts on smashed data, and {self.cfg.kind} sends none",
                    hint="use privacy.dp_sgd, or a method that splits the model",
                )

    def client_parts(self, client: int) -> dict[str, Part]:
        """The whole model."""
        return {"model": self.fresh_part(0, len(self.setup.model))}

    def round(self, rnd: Round) -> None:
        """Down with the model, train, up, average by n_k / n."""
        replies = rnd.accept(
            rnd.ask("train", {client: Request(self.send(client), rnd.begin_s) for client in rnd.clients})
        )
        note_losses(rnd, self.setup, replies)
        if replies:
            self.hold(rnd, len(replies))
            self.aggregate(replies)

    def send(self, client: int) -> Message:
        """What a client begins with."""
        return Message(weights=self.global_model.weights())

    def hold(self, rnd: Round, num_models: int) -> None:
        """The server holds its model, and those that came up."""
        cost = self.setup.model.cost(0, len(self.setup.model))
        rnd.server.hold(training_bytes(cost, self.setup.cfg.optim) + num_models * cost.weight_bytes)

    def aggregate(self, replies: dict[int, Reply]) -> None:
        """Makes the next global model."""
        self.global_model.load(average(weights_of(replies), self.setup.shares(list(replies))))


def note_losses(rnd: Round, setup: Setup, replies: dict[int, Reply]) -> None:
    """Notes the mean losses that clients saw themselves."""
    for client, reply in replies.items():
        rnd.loss.add(float(reply.message.options["loss"]), setup.num_samples[client])  # type: ignore[arg-type]
