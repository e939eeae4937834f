"""FedGKT: knowledge transfer in both directions by logits, without exchanging weights or gradients.

He, Annavaram & Avestimehr, "Group Knowledge Transfer: Federated Learning of Large CNNs at the Edge", NeurIPS 2020,
algorithm 1.

Client: private layers before its cut and a private head, data, the server's logits for its samples.
Server: the layers behind the cut, all features of a round. A device trains with
CE(head(z), y) + alpha T^2 KL(server's softmax(. / T) | its own), then sends features, logits and labels of all its
samples; the server trains on them with CE(server(z), y) + alpha T^2 KL(client's | its own), and sends its logits back.
Sent per client and round: n_k (q s + c s + l) up and n_k c s down, with c classes, whatever the number of
local epochs.

For inference a client's layers are combined with the server's. A client that missed a round's logits uses those of the
last round in which its reply counted.

Differs from the paper: the device's head is Flatten + Linear; optimizers start anew in each round; the server's logits
are computed after its training, without dropout and with running statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeai.fedsplit.config.hybrid import FedGKTConfig
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.methods.auxiliary_nets import HEAD, build_heads, copy_part
from edgeai.fedsplit.methods.feature_pool import Pool
from edgeai.fedsplit.methods.hybrid.local_loss import LocalLossClient
from edgeai.fedsplit.methods.method import Evaluated, Kept, Method, Signature
from edgeai.fedsplit.methods.personal_models import personal_model, personal_models
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.weight_tags import model_weights, tagged, untagged
from edgeai.fedsplit.protocol.batching import derived_seed
from edgeai.fedsplit.protocol.client_half import ClientContext
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.part import Part
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Reply, Request, arrivals

_LOGITS = "server/logits"
_SHUFFLE_SEED = 14  # purpose of the draw


class TaughtClient(LocalLossClient):
    """Trains on labels and on the server's logits; keeps layers, head and logits."""

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        super().__init__(context, parts)
        self.teacher: Tensor | None = None
        self.temperature, self.alpha = 1.0, 0.0
        if self.kept:
            self.load("client", model_weights(self.kept))
            self.load("head", untagged(HEAD, self.kept))

    def on_train(self, message: Message) -> Iterator[Message]:
        """Train for the round, then send features, logits and labels of all samples."""
        self.temperature = message.number("temperature")
        self.alpha = message.number("alpha")
        while (batch := self.batch()) is not None:
            indices, x, y = batch
            self.teacher = self.kept[_LOGITS][indices] if _LOGITS in self.kept else None
            self.learn(self.smash(x), y)
        self.kept |= {**self.weights("client"), **tagged(HEAD, self.weights("head"))}
        for indices in torch.arange(len(self.context.samples.y)).split(self.context.batch):
            yield self.features(indices)

    def on_logits(self, message: Message) -> None:
        """Keep the server's logits for the own samples."""
        self.kept[_LOGITS] = message.side["logits"]

    def local_loss(self, z: Tensor, y: Tensor) -> Tensor:
        """Return the loss on labels and, if there are any yet, on the server's logits."""
        logits = self.parts["head"].module(z)
        return distillation_loss(logits, y, self.teacher, self.temperature, self.alpha)

    @torch.no_grad()
    def features(self, indices: Tensor) -> Message:
        """Return features, logits and labels of some samples."""
        protect, y = self.context.protect, self.context.samples.y[indices]
        z = self.smash_only(self.context.samples.x[indices])
        if protect is not None:
            y = protect.labels(indices, y)
        logits = self.parts["head"].module(z)
        for role in ("client", "head"):
            self.count(role, len(y), forward=1)
        return Message(activations={"z": z}, side={"logits": logits}, labels={"y": y})


class FedGKT(Method):
    """Knowledge transfer by logits between clients and server."""

    cfg: FedGKTConfig
    client_half = TaughtClient
    signature = Signature(activations_up=True, labels_up=True, side_up=True, side_down=True)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.heads = build_heads(setup)
        """Initial head of every client, by position of its cut."""

    def client_parts(self, client: int) -> dict[str, Part]:
        """Return the layers before the cut and the head."""
        head = self.heads[self.setup.positions[client]]
        return {**super().client_parts(client), "head": copy_part(head)}

    def warnings(self) -> tuple[str, ...]:
        """Return the parts that DP-SGD does not cover."""
        if self.setup.cfg.privacy.dp_sgd is None:
            return ()
        return ("DP-SGD covers the layers before the cut, not the heads, whose logits are sent",)

    def round(self, rnd: Round) -> None:
        """Train the devices, then the server on the uploads that count; send the server's logits back."""
        options = {"temperature": self.cfg.temperature, "alpha": self.cfg.alpha}
        requests = {client: Request(Message(options=options), rnd.begin_s) for client in rnd.clients}
        uploads: dict[int, list[Reply]] = {client: [] for client in rnd.clients}
        for reply in arrivals(rnd.stream("train", requests)):
            uploads[reply.client].append(reply)
        last = rnd.accept({client: replies[-1] for client, replies in uploads.items()})
        if not last:
            return
        server = ServerHalf(self.global_model, self.setup.first, self.setup.cfg.optim)
        at_s = self.learn(rnd, server, {client: uploads[client] for client in last})
        answers = {client: self.answer(rnd, server, uploads[client], at_s) for client in last}
        rnd.server.extend(max(rnd.tell("logits", answers).values()))

    def learn(self, rnd: Round, server: ServerHalf, uploads: Mapping[int, Sequence[Reply]]) -> float:
        """Train the server on features and logits; return the end time."""
        cfg, pool = self.setup.cfg, Pool()
        for client, replies in uploads.items():
            for message in (reply.message for reply in replies):
                columns = (message.activations["z"], message.labels["y"], message.side["logits"])
                pool.add(self.setup.positions[client], *columns)
        rnd.server.hold(server.memory_bytes(cfg.batch) + pool.num_bytes)
        at_s = max(replies[-1].at_s for replies in uploads.values())
        for epoch in range(self.cfg.server_epochs):
            seed = derived_seed(cfg.seed, rnd.number, epoch, _SHUFFLE_SEED)
            for position, (z, y, logits) in pool.batches(cfg.batch, seed):
                loss = distillation_loss(server.tail(position)(z), y, logits, self.cfg.temperature, self.cfg.alpha)
                server.optim.zero_grad()
                loss.backward()
                server.optim.step()
                rnd.loss.add(loss.detach(), len(y))
                at_s = rnd.server.work(len(y) * server.cost(position).train_flops, at_s)
        return at_s

    @torch.no_grad()
    def answer(self, rnd: Round, server: ServerHalf, uploads: Sequence[Reply], at_s: float) -> Request:
        """Return the server's logits for all samples of one client, in order."""
        position = self.setup.positions[uploads[0].client]
        tail = server.tail(position).eval()
        logits = torch.cat([tail(reply.message.activations["z"]) for reply in uploads])
        tail.train()
        done_s = rnd.server.work(len(logits) * server.cost(position).forward_flops, at_s)
        return Request(Message(side={"logits": logits}), done_s)

    def evaluated(self, kept: Kept) -> Sequence[Evaluated]:
        """Return the personal model of every client."""
        return personal_models(self, kept)

    def model_of(self, client: int, kept: Kept) -> SplitModel | None:
        """Return a client's personal model."""
        return personal_model(self, client, kept)


def distillation_loss(logits: Tensor, y: Tensor, teacher: Tensor | None, temperature: float, alpha: float) -> Tensor:
    """Return the mean of cross-entropy plus alpha T^2 KL(teacher | student) (Hinton et al. 2015).

    Args:
        logits: Logits of the student, [b, c].
        y: Labels, [b].
        teacher: Logits of the teacher, [b, c]; None without a teacher.
        temperature: Divisor T of both logits.
        alpha: Weight of the second term.
    """
    loss = F.cross_entropy(logits, y)
    if teacher is None or not alpha:
        return loss
    student, target = (logits / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)
    return loss + alpha * temperature**2 * F.kl_div(student, target, reduction="batchmean", log_target=True)
