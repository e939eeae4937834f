"""Feature-space hijacking (Pasquini, Ateniese and Bernaschi 2021): the server trains the client towards its encoder.

The server has an encoder e and a decoder d with d(e(x)) = x on public data, and a discriminator D between e(public) and
what the client sends. Instead of the task's gradient it returns one that makes the client's outputs look like e's.
In the end d(sent data) reconstructs the private inputs.

Differs from the paper: the discriminator is trained with cross-entropy and a gradient penalty on encoder outputs
(Mescheder et al. 2018) instead of a Wasserstein loss, all of the server's nets are small MLPs, and the default number
of steps is small: the paper uses thousands. The result is a lower bound of what such a server learns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeai.fedsplit.config.privacy import FshaConfig

Send = Callable[[Tensor], Tensor]
_SLOPE_PENALTY = 1.0
"""Without the penalty the client's output collapses to a few points after some hundred steps."""


@dataclass(frozen=True)
class _Server:
    """The malicious server's nets on flattened data: encoder p -> q, decoder q -> p, discriminator q -> 1."""

    encoder: nn.Sequential
    decoder: nn.Sequential
    discriminator: nn.Sequential


def hijack(
    part: nn.Module,
    private: Tensor,
    public: Tensor,
    cfg: FshaConfig,
    *,
    send: Send,
    own_loss: Callable[[Tensor, Tensor], Tensor | None],
    seed: int,
) -> Tensor:
    """Run the attack and return the reconstructed private inputs.

    Args:
        part: A copy of the client part at the start; trained in place.
        private: Private inputs [n, ...] of the client.
        public: Public inputs [m, ...] of the server.
        cfg: Size and training of the server's nets.
        send: The client's protection, from z to sent data; differentiable.
        own_loss: (x, sent data) to the client's additional loss (NoPeek), or None.
        seed: Seed of weights and batches.

    Returns:
        Reconstructions [n, ...] by the trained decoder.
    """
    part.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        num_values = part(public[:2])[0].numel()
        server = _build_server(public[0].numel(), num_values, cfg.width, public.device)
    client_step = torch.optim.Adam(part.parameters(), lr=cfg.lr)
    shape_step = torch.optim.Adam([*server.encoder.parameters(), *server.decoder.parameters()], lr=cfg.lr)
    judge_step = torch.optim.Adam(server.discriminator.parameters(), lr=cfg.lr)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(cfg.num_steps):
        x = private[torch.randint(len(private), (cfg.batch,), generator=generator)]
        known = public[torch.randint(len(public), (cfg.batch,), generator=generator)].flatten(1)
        sent = send(part(x))
        _step_client(server, x, sent, own_loss, client_step)
        _step_server(server, known, sent.detach().flatten(1), shape_step, judge_step)
    part.eval()
    with torch.no_grad():
        return server.decoder(send(part(private)).flatten(1)).unflatten(1, private.shape[1:])


def _step_client(
    server: _Server,
    x: Tensor,
    sent: Tensor,
    own_loss: Callable[[Tensor, Tensor], Tensor | None],
    step: torch.optim.Optimizer,
) -> None:
    """Train the client for one step on the returned gradient, which makes its data look like encoder outputs."""
    verdict = server.discriminator(sent.flatten(1))
    loss = F.binary_cross_entropy_with_logits(verdict, torch.ones_like(verdict))
    added = own_loss(x, sent)
    step.zero_grad()
    (loss if added is None else loss + added).backward()
    step.step()


def _step_server(
    server: _Server, known: Tensor, sent: Tensor, shape_step: torch.optim.Optimizer, judge_step: torch.optim.Optimizer
) -> None:
    """Train encoder and decoder for one step on reconstruction, the discriminator on telling both apart."""
    encoded = server.encoder(known)
    shape_step.zero_grad()
    F.mse_loss(server.decoder(encoded), known).backward()
    shape_step.step()
    encoded = encoded.detach().requires_grad_(True)
    real, fake = server.discriminator(encoded), server.discriminator(sent)
    (slope,) = torch.autograd.grad(real.sum(), encoded, create_graph=True)
    loss = F.softplus(-real).mean() + F.softplus(fake).mean() + _SLOPE_PENALTY * slope.square().sum(1).mean()
    judge_step.zero_grad()
    loss.backward()
    judge_step.step()


def _build_server(num_inputs: int, num_values: int, width: int, device: torch.device) -> _Server:
    def net(fan_in: int, fan_out: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(fan_in, width), nn.LeakyReLU(0.2), nn.Linear(width, fan_out)).to(device)

    encoder = net(num_inputs, num_values)
    return _Server(encoder=encoder, decoder=net(num_values, num_inputs), discriminator=net(num_values, 1))
