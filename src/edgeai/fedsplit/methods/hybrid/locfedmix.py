"""LocFedMix-SL: mixup of smashed data at the server, a reconstruction loss on the devices.

Oh et al., "LocFedMix-SL: Localize, Federate, and Mix for Improved Scalability, Convergence, and Latency in Split
Learning", WWW 2022.

Client: the layers before its cut, a decoder that reconstructs x from z, data. Server: one half. In each step the server
trains on the merged batch and additionally on pairs of different clients' smashed data, mixed as
l z_i + (1 - l) z_j with l drawn from Beta(alpha, alpha) and the loss l CE(., y_i) + (1 - l) CE(., y_j). A device
receives the gradient of the merged batch only, and adds that of reconstruct * |x - decoder(z)|^2.
Sent per client and round: E n_k (q s + l) up, E n_k q s down, client part and decoder (d bytes) both ways.

Differs from the paper: the squared error is a mean over values, not a sum, so that its weight does not depend on the
sample size; the decoder is one transposed convolution if z is an image, otherwise one linear layer; in each step every
client is mixed with one randomly chosen other client.

The reconstruction loss preserves information about x in z: the opposite of NoPeek.
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
_DECODER_SEED, _MIX_SEED = 13, 12  # purposes of the draws


class ReconstructingClient(SplitClient):
    """Adds a reconstruction loss to the server's gradient."""

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        super().__init__(context, parts)
        self.optim = self.optimizer("client", "decoder")
        self.weight = 0.0

    def on_load(self, message: Message) -> None:
        """Load layers, decoder and the weight of the reconstruction loss."""
        self.load("client", model_weights(message.weights))
        self.load("decoder", untagged(DECODER, message.weights))
        self.weight = message.number("reconstruct")

    def on_unload(self, message: Message) -> Message:
        """Apply the last gradient, then answer with the weights of layers and decoder."""
        self.apply(message)
        return Message(weights={**self.weights("client"), **tagged(DECODER, self.weights("decoder"))})

    def smash(self, x: Tensor) -> Tensor:
        """Run the layers before the cut, and add the reconstruction loss to the pending batch."""
        z = super().smash(x)
        assert self.pending is not None
        loss = self.reconstruction_loss(x, self.pending.z)
        others = self.pending.extra_loss
        self.pending.extra_loss = loss if others is None else loss + others
        self.count("decoder", len(x), forward=1, backward=1)
        return z

    def reconstruction_loss(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the weighted mean squared error of the decoder."""
        return self.weight * F.mse_loss(self.parts["decoder"].module(z), x)

    def backward(self, pending: Pending, gradient: Tensor) -> None:
        """Fill all gradients. DP-SGD clips the reconstruction gradients of the layers, not those of the decoder."""
        protect = self.context.protect
        if protect is None or not protect.is_dp:
            super().backward(pending, gradient)
            return
        assert pending.extra_loss is not None
        pending.extra_loss.backward()
        protect.client_gradients(self.parts["client"].module, pending.x, gradient, extra=self.reconstruction_loss)


class LocFedMix(LockStep):
    """Lock-step split learning with mixup and local reconstruction."""

    cfg: LocFedMixConfig
    client_half = ReconstructingClient
    signature = Signature(activations_up=True, gradients_down=True, labels_up=True, weights_up=True, weights_down=True)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if not setup.model.dtype.is_floating_point:
            raise UsageError(
                "locfedmix-sl reconstructs inputs from smashed data, but these inputs are tokens",
                hint="choose another method, such as psl",
            )
        self.decoders = build_auxiliary(setup, lambda at: _build_decoder(setup, at), _DECODER_SEED)
        self._step = 0

    def client_parts(self, client: int) -> dict[str, Part]:
        """Return the layers before the cut and the decoder."""
        decoder = self.decoders[self.setup.positions[client]]
        return {**super().client_parts(client), "decoder": copy_part(decoder)}

    def modules(self) -> Mapping[str, nn.Module]:
        """Return the model and the decoders."""
        decoders = {f"{DECODER}.{position}": part.module for position, part in self.decoders.items()}
        return {**super().modules(), **decoders}

    def warnings(self) -> tuple[str, ...]:
        """Return conflicts of the reconstruction loss with a protection."""
        privacy, found = self.setup.cfg.privacy, []
        if privacy.nopeek is not None and self.cfg.reconstruct:
            found.append(
                "NoPeek removes information about the inputs from the smashed data, but locfedmix-sl's reconstruction "
                "loss preserves it; set method.reconstruct to 0, or leave privacy.nopeek empty"
            )
        if privacy.dp_sgd is not None:
            found.append("DP-SGD covers the layers before the cut, not the decoders, which are trained on the inputs")
        return tuple(found)

    def round(self, rnd: Round) -> None:
        """Send the weights, train in lock-step, and average the results."""
        self._step = 0
        server = self.open(rnd)
        rnd.server.hold(server.memory_bytes(2 * self.setup.cfg.batch * len(rnd.clients)))  # with the mixed samples
        told = rnd.tell("load", {client: Request(self.send(client), rnd.begin_s) for client in rnd.clients})
        replies = self.train(rnd, server, {client: Request(at_s=at_s) for client, at_s in told.items()}, "unload")
        if replies:
            served = server_weights(dict.fromkeys(replies, server))
            self.global_model.load(average_whole_models(self.setup, without_auxiliary(replies), served))
            average_auxiliary(DECODER, self.decoders, self.setup, replies)

    def send(self, client: int) -> Message:
        """Return the message that starts a client's round."""
        position = self.setup.positions[client]
        decoder = tagged(DECODER, self.decoders[position].module.state_dict())
        weights = {**self.global_model.weights(0, position), **decoder}
        return Message(weights=weights, options={"reconstruct": self.cfg.reconstruct})

    def answer(self, rnd: Round, server: ServerHalf, replies: Mapping[int, Reply]) -> dict[int, Request]:
        """Train on the merged and the mixed batch; return the gradient of the merged one."""
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
        """Return the global model."""
        return Method.evaluated(self, kept)

    def model_of(self, client: int, kept: Kept) -> SplitModel | None:
        """Return the global model."""
        return Method.model_of(self, client, kept)


def mixed_losses(
    tail: nn.Module,
    features: Mapping[int, Tensor],
    labels: Mapping[int, Tensor],
    clients: Sequence[int],
    alpha: float,
    random: np.random.Generator,
) -> list[Tensor]:
    """Return the losses [m] of mixed smashed data: each client is mixed with its successor in a random cyclic order.

    m is the size of the pair's smaller batch. These losses do not affect the gradients sent to the devices.

    Args:
        tail: Layers behind the clients' cut.
        features: Smashed data z [b_k, ...] by client.
        labels: Labels y [b_k] by client.
        clients: Clients to mix; a single client is not mixed.
        alpha: Parameter of Beta(alpha, alpha).
        random: Generator of the cyclic order and the mixing weights.
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
