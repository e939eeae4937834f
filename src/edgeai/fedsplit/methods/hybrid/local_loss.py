"""Local loss (LocalSplitFed): clients train on a loss of their own behind a small head; no gradient comes back.

Han et al., "Accelerating Federated Learning with Split Learning on Locally Generated Losses", ICML FL workshop 2021.
CSE-FSL, which sends the smashed data of every h-th batch only: Mu & Shen, "Communication and Storage Efficient
Federated Split Learning", ICC 2023.

Client: the layers before its cut, a head, data. Server: the layers behind the cut, one half or a replica per client,
labels as sent. Crosses, per client and round, with a bytes of head: E n_k (q s + l) / h up at the cut and nothing down;
the client part and the head both ways. Exactly half of vanilla split learning's cut bytes, labels aside, with h = 1.

A device goes on while its smashed data travel and the server works; nothing on it waits for the server. Batches
1, h + 1, 2 h + 1 ... of a client are sent, so that at least one is.

Differs from the paper: the head is Flatten + Linear for every model; the paper leaves one server half or replicas open,
here it is an option. With several cuts there is a head per cut, averaged among the clients that have that cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.fedsplit.config.hybrid import CSEFSLConfig, FSLSageConfig, LocalLossConfig
from edgeai.fedsplit.methods.auxiliary_nets import HEAD, average_auxiliary, build_heads, copy_part, without_auxiliary
from edgeai.fedsplit.methods.method import Method, Signature
from edgeai.fedsplit.methods.scheduling import lanes, serve_batch
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.weight_exchange import average_whole_models, server_weights
from edgeai.fedsplit.methods.weight_tags import model_weights, tagged, untagged
from edgeai.fedsplit.protocol.client_half import ClientContext, SplitClient
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.part import Part
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Reply, Request, arrivals


class LocalLossClient(SplitClient):
    """Trains the layers before the cut on the loss of its head."""

    trained: tuple[str, ...] = ("client", "head")
    """Parts that learn here."""
    waits = False

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        super().__init__(context, parts)
        self.optim = self.optimizer(*self.trained)

    def on_train(self, message: Message) -> Iterator[Message]:
        """The whole round: smashed data as soon as they are computed, weights in the end."""
        self.take(message)
        every = int(message.options["every"])  # type: ignore[arg-type]
        for number, (_, x, y) in enumerate(self.batches()):
            z = self.smash(x)
            if number % every == 0:
                yield Message(activations={"z": z}, labels={"y": y})
            self.learn(z, y)
        yield Message(weights=self.result())

    def take(self, message: Message) -> None:
        """Takes over what came down."""
        self.load("client", model_weights(message.weights))
        self.load("head", untagged(HEAD, message.weights))

    def result(self) -> dict[str, Tensor]:
        """What goes up in the end."""
        return {**self.weights("client"), **tagged(HEAD, self.weights("head"))}

    def learn(self, z: Tensor, y: Tensor) -> None:
        """One step on the local loss of the pending batch."""
        assert self.pending is not None, "there is no batch to learn from"
        pending, self.pending = self.pending, None
        self.optim.zero_grad()
        self.backward(pending, self.local_gradient(z, y))
        self.count("head", len(y), forward=1, backward=1)
        self.count("client", len(y), backward=1)
        self.optim.step()

    def local_gradient(self, z: Tensor, y: Tensor) -> Tensor:
        """Gradient of the local loss at the cut; fills the head's on the way."""
        leaf = z.detach().requires_grad_()
        self.local_loss(leaf, y).backward()
        assert leaf.grad is not None
        return leaf.grad

    def local_loss(self, z: Tensor, y: Tensor) -> Tensor:
        """What the device learns from."""
        return F.cross_entropy(self.parts["head"].module(z), y)


class Decoupled(Method):
    """What the methods with a local loss share: one exchange a round, uploads in between."""

    cfg: LocalLossConfig | CSEFSLConfig | FSLSageConfig
    client_half = LocalLossClient
    signature = Signature(activations_up=True, labels_up=True, weights_up=True, weights_down=True)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.heads = build_heads(setup)

    @property
    def every(self) -> int:
        """Smashed data of every so many batches go up."""
        return 1

    def client_parts(self, client: int) -> dict[str, Part]:
        """The layers before the cut, and the head."""
        head = self.heads[self.setup.positions[client]]
        return {**super().client_parts(client), "head": copy_part(head)}

    def modules(self) -> Mapping[str, nn.Module]:
        """The model and the heads."""
        heads = {f"{HEAD}.{position}": head.module for position, head in self.heads.items()}
        return {**super().modules(), **heads}

    def warnings(self) -> tuple[str, ...]:
        """What DP-SGD does not cover."""
        if self.setup.cfg.privacy.dp_sgd is None:
            return ()
        return ("DP-SGD covers the layers before the cut, not the heads, which learn from smashed data and labels",)

    def round(self, rnd: Round) -> None:
        """Weights down, smashed data up while the devices train, weights up, average."""
        servers = self.servers(rnd)
        lane_of = lanes(servers, self.setup.world.lanes)
        requests = {client: Request(self.send(client), rnd.begin_s) for client in rnd.clients}
        ended: dict[int, Reply] = {}
        for reply in self.in_order(rnd.stream("train", requests)):
            if "z" in reply.message.activations:
                server = servers[reply.client]
                serve_batch(rnd, self.setup, server, reply, lane=lane_of[reply.client])
                self.served(rnd, reply)
            else:
                ended[reply.client] = reply
        replies = rnd.accept({client: ended[client] for client in rnd.clients})
        if replies:
            self.aggregate(replies, servers)

    def in_order(self, streams: Mapping[int, Iterator[Reply]]) -> Iterator[Reply]:
        """Uploads in the order in which the server takes them."""
        return arrivals(streams) if self.cfg.server_order == "arrival" else in_turn(streams)

    def servers(self, rnd: Round) -> dict[int, ServerHalf]:
        """The server half that serves each client."""
        half = ServerHalf(self.global_model.copy(), self.setup.first, self.setup.cfg.optim)
        rnd.server.hold(half.memory_bytes(self.setup.cfg.batch))
        return dict.fromkeys(rnd.clients, half)

    def send(self, client: int) -> Message:
        """What a client begins with."""
        position = self.setup.positions[client]
        weights = {
            **self.global_model.weights(0, position),
            **tagged(HEAD, self.heads[position].module.state_dict()),
        }
        return Message(weights=weights, options={"every": self.every})

    def served(self, rnd: Round, reply: Reply) -> None:
        """For variants: smashed data that the server has just learnt from."""

    def aggregate(self, replies: Mapping[int, Reply], servers: Mapping[int, ServerHalf]) -> None:
        """Averages client parts, heads, and replicas of the server half where there are any."""
        self.global_model.load(average_whole_models(self.setup, without_auxiliary(replies), server_weights(servers)))
        average_auxiliary(HEAD, self.heads, self.setup, replies)


class LocalLoss(Decoupled):
    """Every batch goes up."""

    cfg: LocalLossConfig

    def servers(self, rnd: Round) -> dict[int, ServerHalf]:
        """One half for all, or one for each client."""
        if self.cfg.server == "single":
            return super().servers(rnd)
        setup = self.setup
        halves = {client: ServerHalf(self.global_model.copy(), setup.first, setup.cfg.optim) for client in rnd.clients}
        rnd.server.hold(sum(half.memory_bytes(setup.cfg.batch) for half in halves.values()))
        return halves


class CSEFSL(Decoupled):
    """Every h-th batch goes up, to one server half."""

    cfg: CSEFSLConfig

    @property
    def every(self) -> int:
        """The paper's h."""
        return self.cfg.h


def in_turn(streams: Mapping[int, Iterator[Reply]]) -> Iterator[Reply]:
    """Answer i of every client in turn, then answer i + 1."""
    left = dict(streams)
    while left:
        for client, stream in list(left.items()):
            reply = next(stream, None)
            if reply is None:
                del left[client]
            else:
                yield reply
