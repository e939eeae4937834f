"""AdaSplit: devices train on a contrastive loss; selected ones also train the server, which keeps a mask per client.

Chopra et al., "AdaSplit: Adaptive Trade-offs for Resource-constrained Distributed Deep Learning", 2021. Contrastive
loss: Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, equation 2.

Client: private layers before its cut and a private projection, data. Server: one half, and a mask over its weights per
client. Local phase (`local_rounds`): devices train on the contrastive loss at the cut; nothing is sent. Global phase:
they continue with that; for each batch an orchestrator selects the share `select_frac` of the clients by the upper
confidence bound of the server's loss on them. Selected clients send smashed data, and the server's weights w and the
client's mask m are trained on CE of the layers with weights w * m. No gradient is sent back.
Sent per client and round of the global phase: at most E n_k (q s + l) up, about eta of that on average.

For inference a client's layers are combined with the server's under its mask. All devices wait for the orchestrator's
selection.

Differs from the paper: masks are kept sparse by soft thresholding after each step, which yields exact zeros; the
confidence bound discounts losses, but not the number of pulls; the projection is Flatten + Linear.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.hybrid import AdaSplitConfig
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.cuts.weights import Weights
from edgeai.fedsplit.methods.auxiliary_nets import build_auxiliary, copy_part
from edgeai.fedsplit.methods.hybrid.contrastive_loss import contrastive_loss
from edgeai.fedsplit.methods.hybrid.orchestrator import Orchestrator
from edgeai.fedsplit.methods.method import Evaluated, Kept, Method, Signature
from edgeai.fedsplit.methods.personal_models import personal_model
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.split.psl import lock_steps
from edgeai.fedsplit.methods.weight_tags import model_weights, tagged, untagged
from edgeai.fedsplit.protocol.client_half import ClientContext, SplitClient
from edgeai.fedsplit.protocol.message import EMPTY, Message
from edgeai.fedsplit.protocol.part import Part
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.protocol.transport import Reply, Request

_PROJECTION, _WIDTH = "projection", 64
_PROJECTION_SEED = 15  # purpose of the draw


class ContrastiveClient(SplitClient):
    """Trains on the contrastive loss; sends smashed data on request."""

    waits = False

    def __init__(self, context: ClientContext, parts: Mapping[str, Part]) -> None:
        super().__init__(context, parts)
        if self.kept:
            self.load("client", model_weights(self.kept))
            self.load(_PROJECTION, untagged(_PROJECTION, self.kept))
        self.optim = self.optimizer("client", _PROJECTION)

    def on_local(self, message: Message) -> Message:
        """Train for a round of the local phase; answer with the mean loss only."""
        loss, num_samples = 0.0, 0
        for _, x, y in self.batches():
            self.smash(x)
            loss += len(y) * self.learn(y, message)
            num_samples += len(y)
        self.on_end(EMPTY)
        return Message(options={"loss": loss / num_samples})

    def on_step(self, message: Message) -> Message:
        """Train on one batch; answer with its smashed data from before the step if the server requests them."""
        batch = self.batch()
        assert batch is not None, "there are no more batches in this round"
        _, x, y = batch
        z = self.smash(x)
        self.learn(y, message)
        return Message(activations={"z": z}, labels={"y": y}) if message.options["send"] else EMPTY

    def on_end(self, message: Message) -> None:
        """End the round and keep all weights on the device."""
        self.kept = {**self.weights("client"), **tagged(_PROJECTION, self.weights(_PROJECTION))}

    def learn(self, y: Tensor, message: Message) -> float:
        """Take one step on the contrastive loss of the pending batch; return that loss."""
        pending = self.take_pending()
        leaf = pending.z.detach().requires_grad_()
        temperature = message.number("temperature")
        self.optim.zero_grad()
        loss = contrastive_loss(self.parts[_PROJECTION].module(leaf), y, temperature)
        loss.backward()
        assert leaf.grad is not None
        self.backward(pending, leaf.grad)
        self.count(_PROJECTION, len(y), forward=1, backward=1)
        self.count("client", len(y), backward=1)
        self.optim.step()
        return float(loss.detach())


class AdaSplit(Method):
    """Contrastive local training with selected clients and per-client server masks."""

    cfg: AdaSplitConfig
    client_half = ContrastiveClient
    signature = Signature(activations_up=True, labels_up=True)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if setup.cfg.privacy.dp_sgd is not None:
            raise UsageError(
                "adasplit's contrastive loss couples the samples of a batch: there is no per-sample gradient to clip",
                hint="leave privacy.dp_sgd empty, or choose another method",
            )
        self.projections = build_auxiliary(setup, lambda at: _build_projection(setup, at), _PROJECTION_SEED)
        """Initial projection of every client, by position of its cut."""
        self.masks: dict[int, Weights] = {}
        """Masks by client and weight name, for the clients that have trained the server."""
        self.orchestrator = Orchestrator(self.cfg.discount)

    def client_parts(self, client: int) -> dict[str, Part]:
        """Return the layers before the cut and the projection."""
        projection = self.projections[self.setup.positions[client]]
        return {**super().client_parts(client), _PROJECTION: copy_part(projection)}

    def extra(self) -> dict[str, Any]:
        """Return the masks and the orchestrator's statistics."""
        return {"masks": self.masks, "orchestrator": self.orchestrator.state()}

    def load_extra(self, extra: dict[str, Any]) -> None:
        """Restore what `extra` returned."""
        self.masks = extra["masks"]
        self.orchestrator.load_state(extra["orchestrator"])

    def round(self, rnd: Round) -> None:
        """Run a round of the local or the global phase."""
        if rnd.number <= self.cfg.local_rounds:
            self.local_round(rnd)
        else:
            self.global_round(rnd)

    def local_round(self, rnd: Round) -> None:
        """Train the devices without the server."""
        message = Message(options={"temperature": self.cfg.temperature})
        replies = rnd.ask("local", {client: Request(message, rnd.begin_s) for client in rnd.clients})
        for client, reply in replies.items():
            rnd.loss.add(reply.message.number("loss"), self.setup.num_samples[client])
        rnd.accept(replies)

    def global_round(self, rnd: Round) -> None:
        """For each batch, select clients, train the devices, and train the server on the selected ones."""
        server = ServerHalf(self.global_model, self.setup.first, self.setup.cfg.optim)
        ready_s = dict.fromkeys(rnd.clients, rnd.begin_s)
        for clients in lock_steps(self.setup, rnd.clients, "shrink"):
            chosen = self.orchestrator.choose(clients, math.ceil(self.cfg.select_frac * len(clients)))
            options = {"temperature": self.cfg.temperature}
            requests = {
                client: Request(Message(options={**options, "send": client in chosen}), ready_s[client])
                for client in clients
            }
            replies = rnd.ask("step", requests)
            selected_s = max([rnd.begin_s, *(self.learn(rnd, server, replies[client]) for client in chosen)])
            ready_s |= {client: max(selected_s, reply.client_s) for client, reply in replies.items()}
        num_masked = sum(mask.numel() * mask.element_size() for one in self.masks.values() for mask in one.values())
        rnd.server.hold(server.memory_bytes(self.setup.cfg.batch) + num_masked)
        rnd.notes["mask_density_frac"] = self.density_frac()
        rnd.accept(rnd.ask("end", {client: Request(at_s=ready_s[client]) for client in rnd.clients}))

    def learn(self, rnd: Round, server: ServerHalf, reply: Reply) -> float:
        """Train weights and mask on one client's batch; return the end time."""
        client, position = reply.client, self.setup.positions[reply.client]
        tail, cfg = server.tail(position), self.setup.cfg.optim
        weights = {name: weight for name, weight in tail.named_parameters() if weight.requires_grad}
        if client not in self.masks:
            self.masks[client] = {name: torch.ones_like(weight).detach() for name, weight in weights.items()}
        masks = {name: mask.requires_grad_() for name, mask in self.masks[client].items()}
        z, y = reply.message.activations["z"], reply.message.labels["y"]
        masked = {name: weight * masks[name] for name, weight in weights.items()}
        loss = F.cross_entropy(functional_call(tail, masked, (z,)), y)
        server.optim.zero_grad()
        slopes = torch.autograd.grad(loss, [*weights.values(), *masks.values()], allow_unused=True)
        for weight, slope in zip(weights.values(), slopes, strict=False):
            weight.grad = slope
        server.optim.step()
        self.masks[client] = {
            name: mask.detach()
            if slope is None
            else _shrunk(mask.detach() - cfg.lr * slope, cfg.lr * self.cfg.sparsity)
            for (name, mask), slope in zip(masks.items(), slopes[len(weights) :], strict=True)
        }
        self.orchestrator.saw(client, float(loss.detach()))
        rnd.loss.add(loss.detach(), len(y))
        return rnd.server.work(len(y) * server.cost(position).train_flops, reply.at_s)

    def density_frac(self) -> float:
        """Return the share of non-zero mask values."""
        values = [mask for one in self.masks.values() for mask in one.values()]
        return sum(int(mask.count_nonzero()) for mask in values) / max(1, sum(mask.numel() for mask in values))

    def masked_model(self, client: int, kept: Kept) -> SplitModel:
        """Return one client's layers joined with the server's under its mask."""
        own = personal_model(self, client, kept)
        weights = own.weights()
        own.load({name: weights[name] * mask for name, mask in self.masks.get(client, {}).items()})
        return own

    def evaluated(self, kept: Kept) -> Sequence[Evaluated]:
        """Return the masked model of every client."""
        clients = range(len(self.setup.positions))
        return [Evaluated(self.whole(self.masked_model(client, kept)), client) for client in clients]

    def model_of(self, client: int, kept: Kept) -> SplitModel | None:
        """Return a client's masked model."""
        return self.masked_model(client, kept)


def _build_projection(setup: Setup, position: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(setup.model.shape_at(position)), _WIDTH))


def _shrunk(mask: Tensor, step: float) -> Tensor:
    """Return the mask after soft thresholding, the proximal step of the L1 norm."""
    return mask.sign() * (mask.abs() - step).clamp(min=0)
