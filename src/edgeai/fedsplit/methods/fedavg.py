"""FedAvg: every client trains the whole model, the server averages.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017, algorithm 1.
Client: all layers, data, labels. Server: the average. Crosses, per client and round: N s bytes down, N s up.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from edgeai.fedsplit.halves import ClientHalf, Part, static_bytes
from edgeai.fedsplit.message import Message
from edgeai.fedsplit.method import Method, Round, Signature, weights_of
from edgeai.fedsplit.split import average
from edgeai.fedsplit.transport import Reply, Request


class FullClient(ClientHalf):
    """A device that trains the whole model on its own."""

    def on_train(self, message: Message) -> Message:
        """Takes over the weights, trains for the round, and answers with the result."""
        self.load("model", message.weights)
        self.begin(message)
        module, optim = self.parts["model"].module, self.optimiser("model")
        loss_sum, num_samples = 0.0, 0
        for _, x, y in self.batches():
            loss = F.cross_entropy(module(x), y)
            optim.zero_grad()
            (loss + self.penalty()).backward()
            self.correct()
            optim.step()
            self.count("model", len(x), forward=1, backward=1)
            loss_sum += float(loss.detach()) * len(x)
            num_samples += len(x)
        return self.answer(Message(weights=self.weights("model"), options={"loss": loss_sum / num_samples}))

    def begin(self, message: Message) -> None:
        """For variants: what else came down."""

    def penalty(self) -> Tensor | float:
        """For variants: a further term of the local loss."""
        return 0.0

    def correct(self) -> None:
        """For variants: a change of the gradients before the step."""

    def answer(self, message: Message) -> Message:
        """For variants: what else goes up."""
        return message


class FedAvg(Method):
    """See the head of this file."""

    client_half = FullClient
    is_split = False
    signature = Signature(weights_up=True, weights_down=True)

    def client_parts(self, client: int) -> dict[str, Part]:
        """The whole model."""
        return {"model": self.fresh_part(0, len(self.setup.model))}

    def round(self, rnd: Round) -> None:
        """Down with the model, train, up, average by n_k / n."""
        replies = rnd.accept(
            rnd.ask("train", {client: Request(self.send(client), rnd.begin_s) for client in rnd.clients})
        )
        for client, reply in replies.items():
            rnd.loss(float(reply.message.options["loss"]), self.setup.num_samples[client])  # type: ignore[arg-type]
        if replies:
            self.aggregate(rnd, replies)

    def send(self, client: int) -> Message:
        """What a client begins with."""
        return Message(weights=self.global_model.weights())

    def aggregate(self, rnd: Round, replies: dict[int, Reply]) -> None:
        """Makes the next global model."""
        cost = self.setup.model.cost(0, len(self.setup.model))
        rnd.hold(static_bytes(cost, self.setup.cfg.optim) + len(replies) * cost.weight_bytes)
        self.global_model.load(average(weights_of(replies), self.setup.shares(list(replies))))
