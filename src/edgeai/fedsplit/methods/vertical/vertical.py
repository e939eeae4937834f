"""Vertical split learning: clients hold different features of the same samples; the server merges their smashed data.

Vepakomma et al., "Split learning for health: Distributed deep learning without sharing raw patient data", 2018
(vertically partitioned data); merges: Ceballos et al., "SplitNN-driven Vertical Partitioning", 2020. Client: private
layers for its features. Server: labels and the layers behind the merge. A client's layers are those before the cut,
adapted to its share of the inputs; the layers behind the cut are adapted to the merged input.
Sent per client and round: E n q_k s up and down, with q_k values per sample; no labels, no weights.

Samples must be aligned: all clients have them in the same order (in practice by private set intersection) and shuffle
them by a shared seed, so that no indices are sent. Images are merged along the axis on which they were partitioned,
all other inputs on their last axis. An absent client is zeros in concat, and is left out of sum, mean and max.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.data import VerticalPartitionConfig
from edgeai.fedsplit.config.vertical import VerticalConfig
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.methods.method import Evaluated, Kept, Method, Signature
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.vertical.merging import Merge, fitted
from edgeai.fedsplit.partition.views import take_inputs
from edgeai.fedsplit.protocol.batching import derived_seed, permuted
from edgeai.fedsplit.protocol.client_half import PrivateClient
from edgeai.fedsplit.protocol.message import EMPTY, Message
from edgeai.fedsplit.protocol.part import Part
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Reply, Request

_ORDER, _CLIENT, _TOP = 10, 11, 12
"""Purposes of seeds: common sample order, initial weights of a client, initial weights of the server."""


def common_order(seed: int, number: int, num_samples: int, batch: int, epochs: int) -> Iterator[Tensor]:
    """Yield the batches of a round as indices int64, the same for every party."""
    for epoch in range(epochs):
        yield from permuted(num_samples, batch, derived_seed(seed, number, epoch, _ORDER))


class VerticalClient(PrivateClient):
    """Client half for its own features of every sample, in the common order. It sends no labels."""

    def on_step(self, message: Message) -> Message:
        """Apply a gradient, then answer with the next batch, without labels."""
        self.apply(message)
        batch = self.batch()
        if batch is None:
            return EMPTY
        return Message(activations={"z": self.smash(batch.x)})

    def _batches(self) -> Iterator[Tensor]:
        context = self.context
        return common_order(context.seed, context.round, len(context.samples), context.batch, context.epochs)


class Vertical(Method):
    """Vertical split learning with a merge of smashed data."""

    cfg: VerticalConfig
    client_half = VerticalClient
    signature = Signature(activations_up=True, gradients_down=True)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if len(set(setup.positions)) > 1:
            raise UsageError("method vertical has one cut for all clients", hint="give a single layer as cut")
        partition = setup.cfg.partition
        assert isinstance(partition, VerticalPartitionConfig)
        self.partition = partition
        self.bottoms = [_bottom(setup, client) for client in range(len(setup.num_samples))]
        shapes = [bottom.shape_at(setup.first) for bottom in self.bottoms]
        is_like_input = len(shapes[0]) == len(setup.model.sample_shape)
        self.merge = Merge(self.cfg.merge, shapes, -2 if is_like_input and partition.axis == "rows" else -1)
        self.top = _top(setup, self.merge.output_shape)

    def client_parts(self, client: int) -> dict[str, Part]:
        """Return the layers for a client's own features."""
        bottom = self.bottoms[client].copy()
        return {"client": Part(bottom.model, bottom.cost(0, len(bottom)))}

    def round(self, rnd: Round) -> None:
        """Train in lock-step over all samples."""
        cfg = self.setup.cfg
        assert self.setup.inputs.labels is not None
        server = ServerHalf(self.top, 0, cfg.optim)
        rnd.server.hold(server.memory_bytes(cfg.batch))
        requests = {client: Request(at_s=rnd.begin_s) for client in rnd.clients}
        for rows in common_order(cfg.seed, rnd.number, len(self.setup.inputs.labels), cfg.batch, cfg.local_epochs):
            requests = self.step(rnd, server, rnd.ask("step", requests), self.setup.inputs.labels[rows])
        rnd.accept(rnd.ask("end", requests))

    def step(self, rnd: Round, server: ServerHalf, replies: Mapping[int, Reply], y: Tensor) -> dict[int, Request]:
        """Train on merged smashed data; return each client's gradient."""
        z = {client: reply.message.activations["z"].requires_grad_() for client, reply in replies.items()}
        merged = self.merge(z)
        step = server.step(0, merged, y)
        merged.backward(step.gradient)
        rnd.loss.add(step.loss, len(y))
        done_s = rnd.server.work(step.flops, max(reply.at_s for reply in replies.values()))
        gradients = {client: one.grad for client, one in z.items() if one.grad is not None}
        return {client: Request(Message(gradients={"z": gradient}), done_s) for client, gradient in gradients.items()}

    def evaluated(self, kept: Kept) -> Sequence[Evaluated]:
        """Return the joint model of all clients and the server, on whole samples."""
        bottoms = []
        for client, start in enumerate(self.bottoms):
            bottom = start.copy()
            bottom.load(kept(client))
            bottoms.append(bottom.model)
        indices, at_cut = self.setup.inputs.indices, self.setup.at_cut
        return (Evaluated(Joined(bottoms, indices, self.partition, at_cut, self.merge, self.top)),)

    def model_of(self, client: int, kept: Kept) -> SplitModel | None:
        """Return None: a client's layers take its own features only."""
        return None

    def modules(self) -> Mapping[str, nn.Module]:
        """Return the server's layers."""
        return {"top": self.top.model}


class Joined(nn.Module):
    """Joint model of all clients and the server, for whole samples [b, ...].

    Args:
        bottoms: Layers of each client.
        inputs: Indices of each client on the partitioned axis.
        partition: Config with the partitioned axis.
        at_cut: Protection of smashed data at inference.
        merge: Merge of the clients' smashed data.
        top: Layers of the server.
    """

    def __init__(
        self,
        bottoms: Sequence[nn.Module],
        inputs: Sequence[Tensor],
        partition: VerticalPartitionConfig,
        at_cut: nn.Module | None,
        merge: Merge,
        top: SplitModel,
    ) -> None:
        super().__init__()
        self.bottoms = nn.ModuleList(bottoms)
        self.at_cut, self.merge, self.top = at_cut, merge, top.model
        self._inputs, self._partition = inputs, partition

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [b, classes]."""
        parts = {}
        for client, (bottom, inputs) in enumerate(zip(self.bottoms, self._inputs, strict=True)):
            z = bottom(take_inputs(x, self._partition, inputs.to(x.device)))
            parts[client] = z if self.at_cut is None else self.at_cut(z)
        logits: Tensor = self.top(self.merge(parts))
        return logits


def _bottom(setup: Setup, client: int) -> SplitModel:
    """Return the layers before the cut, adapted to one client's share of the inputs."""
    shape = setup.inputs.shapes[client]
    layers = fitted(
        setup.model.part(0, setup.first),
        shape,
        derived_seed(setup.cfg.seed, client, _CLIENT),
        dtype=setup.model.dtype,
        complaint=f"the layers before the cut do not accept client {client}'s share of the inputs, {list(shape)}",
        hint="lower num_clients, or change partition.axis or partition.columns",
    )
    return SplitModel(layers, shape, setup.model.dtype)


def _top(setup: Setup, shape: tuple[int, ...]) -> SplitModel:
    """Return the layers behind the cut, adapted to merged samples."""
    layers = fitted(
        setup.model.part(setup.first, len(setup.model)),
        shape,
        derived_seed(setup.cfg.seed, 0, _TOP),
        complaint=f"the layers behind the cut do not accept merged samples, {list(shape)}",
        hint="set method.merge to sum, mean or max, or cut elsewhere",
    )
    return SplitModel(layers, shape)
