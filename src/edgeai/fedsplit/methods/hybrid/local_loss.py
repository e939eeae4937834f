"""Local loss (LocalSplitFed): clients train on the loss of a small local head; the server sends no gradient.

Han et al., "Accelerating Federated Learning with Split Learning on Locally Generated Losses", ICML FL workshop 2021.
CSE-FSL, which sends the smashed data of every h-th batch only: Mu & Shen, "Communication and Storage Efficient
Federated Split Learning", ICC 2023.

Client: the layers before its cut, a head, data. Server: the layers behind the cut, one half or a replica per client,
labels as sent. Sent per client and round, with a bytes of head: E n_k (q s + l) / h up at the cut and nothing down; the
client part and the head both ways. With h = 1 and without labels, exactly half of vanilla split learning's cut bytes.

A device continues training while its smashed data are in transit and the server computes; it never waits for the
server. Batches 1, h + 1, 2 h + 1 ... of a client are sent, so that at least one is.

Differs from the paper: the head is Flatten + Linear for every model; the paper leaves one server half or replicas open,
here it is an option. With several cuts there is one head per cut, averaged over the clients with that cut.
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
    """Trains the layers before the cut on the loss of a local head."""

    trained: tuple[str, ...] = ("client", "head")
    """Roles of the parts that the client trains."""
    waits = False

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        super().__init__(context, parts)
        self.optim = self.optimizer(*self.trained)

    def on_train(self, message: Message) -> Iterator[Message]:
        """Train for the round: send smashed data as soon as they are computed, and the weights at the end."""
        self.take(message)
        every = int(message.number("every"))
        for number, (_, x, y) in enumerate(self.batches()):
            z = self.smash(x)
            if number % every == 0:
                yield Message(activations={"z": z}, labels={"y": y})
            self.learn(z, y)
        yield Message(weights=self.result())

    def take(self, message: Message) -> None:
        """Load the layers and the head."""
        self.load("client", model_weights(message.weights))
        self.load("head", untagged(HEAD, message.weights))

    def result(self) -> dict[str, Tensor]:
        """Return the weights to send at the end of the round."""
        return {**self.weights("client"), **tagged(HEAD, self.weights("head"))}

    def learn(self, z: Tensor, y: Tensor) -> None:
        """Take one step on the local loss of the pending batch."""
        pending = self.take_pending()
        self.optim.zero_grad()
        self.backward(pending, self.local_gradient(z, y))
        self.count("head", len(y), forward=1, backward=1)
        self.count("client", len(y), backward=1)
        self.optim.step()

    def local_gradient(self, z: Tensor, y: Tensor) -> Tensor:
        """Return the gradient of the local loss at the cut, and fill the head's gradients."""
        leaf = z.detach().requires_grad_()
        self.local_loss(leaf, y).backward()
        assert leaf.grad is not None
        return leaf.grad

    def local_loss(self, z: Tensor, y: Tensor) -> Tensor:
        """Return the local loss."""
        return F.cross_entropy(self.parts["head"].module(z), y)


class Decoupled(Method):
    """Methods with a local loss: one exchange per round, with uploads in between."""

    cfg: LocalLossConfig | CSEFSLConfig | FSLSageConfig
    client_half = LocalLossClient
    signature = Signature(activations_up=True, labels_up=True, weights_up=True, weights_down=True)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.heads = build_heads(setup)

    @property
    def every(self) -> int:
        """Upload interval in batches."""
        return 1

    def client_parts(self, client: int) -> dict[str, Part]:
        """Return the layers before the cut and the head."""
        head = self.heads[self.setup.positions[client]]
        return {**super().client_parts(client), "head": copy_part(head)}

    def modules(self) -> Mapping[str, nn.Module]:
        """Return the model and the heads."""
        heads = {f"{HEAD}.{position}": head.module for position, head in self.heads.items()}
        return {**super().modules(), **heads}

    def warnings(self) -> tuple[str, ...]:
        """Return the parts that DP-SGD does not cover."""
        if self.setup.cfg.privacy.dp_sgd is None:
            return ()
        return ("DP-SGD covers the layers before the cut, not the heads, which learn from smashed data and labels",)

    def round(self, rnd: Round) -> None:
        """Send the weights, train the server on uploads while the devices train, and average the results."""
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
        """Yield uploads in the order in which the server trains on them."""
        return arrivals(streams) if self.cfg.server_order == "arrival" else in_turn(streams)

    def servers(self, rnd: Round) -> dict[int, ServerHalf]:
        """Return the server half of each client."""
        half = ServerHalf(self.global_model.copy(), self.setup.first, self.setup.cfg.optim)
        rnd.server.hold(half.memory_bytes(self.setup.cfg.batch))
        return dict.fromkeys(rnd.clients, half)

    def send(self, client: int) -> Message:
        """Return the message that starts a client's round."""
        position = self.setup.positions[client]
        weights = {
            **self.global_model.weights(0, position),
            **tagged(HEAD, self.heads[position].module.state_dict()),
        }
        return Message(weights=weights, options={"every": self.every})

    def served(self, rnd: Round, reply: Reply) -> None:
        """Hook for subclasses: called after the server has trained on an upload."""

    def aggregate(self, replies: Mapping[int, Reply], servers: Mapping[int, ServerHalf]) -> None:
        """Average client parts, heads, and server replicas if there are several."""
        self.global_model.load(average_whole_models(self.setup, without_auxiliary(replies), server_weights(servers)))
        average_auxiliary(HEAD, self.heads, self.setup, replies)


class LocalLoss(Decoupled):
    """Local loss with an upload of every batch."""

    cfg: LocalLossConfig

    def servers(self, rnd: Round) -> dict[int, ServerHalf]:
        """Return one half for all clients, or a replica per client."""
        if self.cfg.server == "single":
            return super().servers(rnd)
        setup = self.setup
        halves = {client: ServerHalf(self.global_model.copy(), setup.first, setup.cfg.optim) for client in rnd.clients}
        rnd.server.hold(sum(half.memory_bytes(setup.cfg.batch) for half in halves.values()))
        return halves


class CSEFSL(Decoupled):
    """Local loss with an upload of every h-th batch to one server half."""

    cfg: CSEFSLConfig

    @property
    def every(self) -> int:
        """Upload interval in batches, h."""
        return self.cfg.h


def in_turn(streams: Mapping[int, Iterator[Reply]]) -> Iterator[Reply]:
    """Yield reply i of every client in turn, then reply i + 1."""
    left = dict(streams)
    while left:
        for client, stream in list(left.items()):
            reply = next(stream, None)
            if reply is None:
                del left[client]
            else:
                yield reply
