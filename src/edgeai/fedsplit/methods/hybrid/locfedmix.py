"""LocFedMix-SL: mixed smashed data for the server, a reconstruction loss for the devices.

Oh et al., "LocFedMix-SL: Localize, Federate, and Mix for Improved Scalability, Convergence, and Latency in Split
Learning", WWW 2022.

Client: the layers before its cut, a decoder that rebuilds x from z, data. Server: one half. In each step the server
learns from the merged batch and, on top, from pairs of different clients' smashed data, mixed as
l z_i + (1 - l) z_j with l drawn from Beta(alpha, alpha) and the loss l CE(., y_i) + (1 - l) CE(., y_j). A device gets
the gradient of the merged batch alone, and adds that of reconstruct * |x - decoder(z)|^2.
Crosses, per client and round, with d bytes of decoder: E n_k (q s + l) up, E n_k q s down, client part and decoder
both ways.

Differs from the paper: the squared error is a mean over values, not a sum, so that its weight does not depend on the
size of a sample; the decoder is one transposed convolution where a picture lies at the cut, one linear layer elsewhere;
each client is mixed with one other one in a step, chosen anew.

The reconstruction loss keeps in z what there is to know about x: the opposite of NoPeek.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.hybrid import LocFedMixConfig
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.methods.auxiliary_nets import average_auxiliary, build_auxiliary, copy_part, without_auxiliary
from edgeai.fedsplit.methods.method import Evaluated, Kept, Method, Signature
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.split.psl import LockStep, by_cut
from edgeai.fedsplit.methods.weight_exchange import average_whole_models, server_weights
from edgeai.fedsplit.methods.weight_tags import model_weights, tagged, untagged
from edgeai.fedsplit.protocol.batching import derived_seed
from edgeai.fedsplit.protocol.client_half import ClientContext, Pending, SplitClient
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.part import Part
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Reply, Request

DECODER = "decoder"
_DECODER_SEED, _MIX_SEED = 13, 12  # what a draw is for


class RebuildingClient(SplitClient):
    """Adds the loss of rebuilding its inputs to what the server's gradient asks for."""

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        super().__init__(context, parts)
        self.optim = self.optimizer("client", "decoder")
        self.weight = 0.0

    def on_load(self, message: Message) -> None:
        """Takes over layers and decoder."""
        self.load("client", model_weights(message.weights))
        self.load("decoder", untagged(DECODER, message.weights))
        self.weight = float(message.options["reconstruct"])  # type: ignore[arg-type]

    def on_unload(self, message: Message) -> Message:
        """Ends the round with both."""
        self.apply(message)
        return Message(weights={**self.weights("client"), **tagged(DECODER, self.weights("decoder"))})

    def smash(self, x: Tensor) -> Tensor:
        """As everywhere, with the reconstruction loss beside NoPeek's."""
        z = super().smash(x)
        assert self.pending is not None
        loss = self.reconstruction_loss(x, self.pending.z)
        others = self.pending.extra_loss
        self.pending.extra_loss = loss if others is None else loss + others
        self.count("decoder", len(x), forward=1, backward=1)
        return z

    def reconstruction_loss(self, x: Tensor, z: Tensor) -> Tensor:
        """Weighed mean squared error of the decoder."""
        return self.weight * F.mse_loss(self.parts["decoder"].module(z), x)

    def backward(self, pending: Pending, gradient: Tensor) -> None:
        """Under DP-SGD the layers' share of the reconstruction loss is clipped with the rest, the decoder's is not."""
        protect = self.context.protect
        if protect is None or not protect.is_dp:
            super().backward(pending, gradient)
            return
        assert pending.extra_loss is not None
        pending.extra_loss.backward()
        protect.client_gradients(self.parts["client"].module, pending.x, gradient, extra=self.reconstruction_loss)


class LocFedMix(LockStep):
    """See the head of this file."""

    cfg: LocFedMixConfig
    client_half = RebuildingClient
    signature = Signature(activations_up=True, gradients_down=True, labels_up=True, weights_up=True, weights_down=True)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if not setup.model.dtype.is_floating_point:
            raise UsageError(
                "locfedmix-sl rebuilds inputs from smashed data, and these inputs are tokens",
                hint="choose another method, such as psl",
            )
        self.decoders = build_auxiliary(setup, lambda at: _build_decoder(setup, at), _DECODER_SEED)
        self._step = 0

    def client_parts(self, client: int) -> dict[str, Part]:
        """The layers before the cut, and the decoder."""
        decoder = self.decoders[self.setup.positions[client]]
        return {**super().client_parts(client), "decoder": copy_part(decoder)}

    def modules(self) -> Mapping[str, nn.Module]:
        """The model and the decoders."""
        decoders = {f"{DECODER}.{position}": part.module for position, part in self.decoders.items()}
        return {**super().modules(), **decoders}

    def warnings(self) -> tuple[str, ...]:
        """Where the reconstruction loss works against a protection."""
        privacy, found = self.setup.cfg.privacy, []
        if privacy.nopeek is not None and self.cfg.reconstruct:
            found.append(
                "NoPeek hides the inputs from whoever sees the smashed data, and locfedmix-sl's reconstruction loss "
                "keeps them there: the two work against each other; set method.reconstruct to 0, or leave "
                "privacy.nopeek empty"
            )
        if privacy.dp_sgd is not None:
            found.append("DP-SGD covers the layers before the cut, not the decoders, which learn from the inputs")
        return tuple(found)

    def round(self, rnd: Round) -> None:
        """Weights down, lock-step, weights up, average."""
        self._step = 0
        server = self.open(rnd)
        rnd.server.hold(server.memory_bytes(2 * self.setup.cfg.batch * len(rnd.clients)))  # as many mixed ones
        told = rnd.tell("load", {client: Request(self.send(client), rnd.begin_s) for client in rnd.clients})
        replies = self.train(rnd, server, {client: Request(at_s=at_s) for client, at_s in told.items()}, "unload")
        if replies:
            served = server_weights(dict.fromkeys(replies, server))
            self.global_model.load(average_whole_models(self.setup, without_auxiliary(replies), served))
            average_auxiliary(DECODER, self.decoders, self.setup, replies)

    def send(self, client: int) -> Message:
        """What a client begins with."""
        position = self.setup.positions[client]
        decoder = tagged(DECODER, self.decoders[position].module.state_dict())
        weights = {**self.global_model.weights(0, position), **decoder}
        return Message(weights=weights, options={"reconstruct": self.cfg.reconstruct})

    def answer(self, rnd: Round, server: ServerHalf, replies: Mapping[int, Reply]) -> dict[int, Request]:
        """One step on the merged and the mixed batch; the gradient is of the merged one."""
        self._step += 1
        leaves = {client: reply.message.activations["z"].detach().requires_grad_() for client, reply in replies.items()}
        labels = {client: reply.message.labels["y"] for client, reply in replies.items()}
        random = np.random.default_rng(derived_seed(self.setup.cfg.seed, rnd.number, self._step, _MIX_SEED))
        flops = 0.0
        losses, mixed = list[Tensor](), list[Tensor]()
        for position, clients in by_cut(self.setup, replies).items():
            tail, y = server.tail(position), torch.cat([labels[client] for client in clients])
            losses.append(F.cross_entropy(tail(torch.cat([leaves[client] for client in clients])), y, reduction="none"))
            pairs = mixed_losses(tail, leaves, labels, clients, self.cfg.alpha, random)
            mixed += pairs
            flops += (len(y) + sum(map(len, pairs))) * server.cost(position).train_flops
        loss = torch.cat(losses)
        server.optim.zero_grad()
        (loss.mean() + (torch.cat(mixed).mean() if mixed else 0.0)).backward()
        server.optim.step()
        rnd.loss.add(loss.detach().mean(), len(loss))
        done_s = rnd.server.work(flops, max(reply.at_s for reply in replies.values()))
        return {
            client: Request(Message(gradients={"z": leaf.grad * (len(loss) / len(leaf))}), done_s)
            for client, leaf in leaves.items()
            if leaf.grad is not None
        }

    def evaluated(self, kept: Kept) -> Sequence[Evaluated]:
        """One model for all."""
        return Method.evaluated(self, kept)

    def model_of(self, client: int, kept: Kept) -> SplitModel | None:
        """Likewise."""
        return Method.model_of(self, client, kept)


def mixed_losses(
    tail: nn.Module,
    features: Mapping[int, Tensor],
    labels: Mapping[int, Tensor],
    clients: Sequence[int],
    alpha: float,
    random: np.random.Generator,
) -> list[Tensor]:
    """Losses [m] of the mixed smashed data of each pair: every client with the next one in a random circle.

    As many samples of a pair are mixed as its smaller batch has. Nothing of this reaches a device.

    Args:
        tail: The layers behind these clients' cut.
        features: z [b_k, ...] by client.
        labels: y [b_k] by client.
        clients: Whom to mix; one alone has no other.
        alpha: Of Beta(alpha, alpha).
        random: Draws circle and shares.
    """
    if len(clients) < 2:
        return []
    circle = random.permutation(clients).tolist()
    losses = []
    for one, other in zip(circle, circle[1:] + circle[:1], strict=True):
        share = float(random.beta(alpha, alpha))
        size = min(len(labels[one]), len(labels[other]))
        logits = tail(share * features[one][:size].detach() + (1 - share) * features[other][:size].detach())
        losses.append(
            share * F.cross_entropy(logits, labels[one][:size], reduction="none")
            + (1 - share) * F.cross_entropy(logits, labels[other][:size], reduction="none")
        )
    return losses


def _build_decoder(setup: Setup, position: int) -> nn.Module:
    """Build a decoder from smashed data at a cut to inputs."""
    x_shape, z_shape = setup.model.sample_shape, setup.model.shape_at(position)
    if len(x_shape) == len(z_shape) == 3 and x_shape[1] % z_shape[1] == x_shape[2] % z_shape[2] == 0:
        stride = (x_shape[1] // z_shape[1], x_shape[2] // z_shape[2])
        return nn.ConvTranspose2d(z_shape[0], x_shape[0], stride, stride)
    linear = nn.Linear(math.prod(z_shape), math.prod(x_shape))
    return nn.Sequential(nn.Flatten(), linear, nn.Unflatten(1, x_shape))
