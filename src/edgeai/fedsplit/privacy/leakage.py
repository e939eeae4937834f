"""Leakage of a trained client part, measured by attacks on the data that are sent at the cut.

Shapes: n private samples, m public samples. Attackers see what `Protect` sends and have the public samples.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.privacy import DecoderConfig, LeakageConfig, UnsplitConfig
from edgeai.fedsplit.privacy.attacks.decoder import fit_decoder
from edgeai.fedsplit.privacy.attacks.fsha import hijack
from edgeai.fedsplit.privacy.attacks.labels import gradients_at_cut, label_leakage
from edgeai.fedsplit.privacy.attacks.quality import compare
from edgeai.fedsplit.privacy.attacks.unsplit import forget_weights, unsplit
from edgeai.fedsplit.privacy.dcor import mean_distance_correlation
from edgeai.fedsplit.privacy.protection import Protect
from edgeai.fedsplit.reports.leakage_report import Leakage

HeadLoss = Callable[[Tensor, Tensor], Tensor]


class Labelled(Protocol):
    """Samples with labels."""

    @property
    def x(self) -> Tensor:
        """Inputs [n, ...] float32."""

    @property
    def y(self) -> Tensor:
        """Labels [n] int64."""


def measure_leakage(
    client_part: nn.Module,
    protect: Protect | None,
    private: Labelled,
    public: Labelled,
    head_loss: HeadLoss,
    cfg: LeakageConfig,
) -> Leakage:
    """Attack a trained client part; neither it, nor the protection, nor any global random state is changed.

    Args:
        client_part: The client part, measured in evaluation mode.
        protect: The client's protection, or None.
        private: The client's samples; the first `cfg.num_private` of a seeded order are attacked.
        public: The attacker's samples, of the same kind; the first `cfg.num_public` of a seeded order are used.
        head_loss: (sent data, y) to the mean loss of the server part; used for label leakage only.
        cfg: Measurements to make.

    Raises:
        UsageError: The inputs are tokens, and more than label leakage is to be measured.
    """
    _refuse_tokens(private.x, cfg)
    part = copy.deepcopy(client_part).eval()
    scene = _Scene(part, None if protect is None else protect.aside(cfg.seed), cfg)
    rows, known = _some(private, cfg.num_private, cfg.seed), _some(public, cfg.num_public, cfg.seed + 1)
    x, y, known_x, known_y = private.x[rows], private.y[rows], public.x[known], public.y[known]
    sent = scene.send(x)
    found: dict[str, object] = {}
    if cfg.dcor:
        found |= _correlations(x, sent, cfg)
    if cfg.decoder is not None:
        found |= _invert(scene, cfg.decoder, x, y, sent, known_x, known_y)
    if cfg.unsplit is not None:
        few = slice(0, max(2, cfg.unsplit.num_samples))
        found["unsplit"] = compare(x[few], _search(scene, cfg.unsplit, sent[few], x), dcor_batch=cfg.dcor_batch)
    if cfg.fsha is not None:
        guess = hijack(
            copy.deepcopy(client_part),
            x,
            known_x,
            cfg.fsha,
            send=scene.protected,
            own_loss=scene.own_loss,
            seed=cfg.seed,
        )
        found["fsha"] = compare(x, guess, dcor_batch=cfg.dcor_batch)
    if cfg.labels is not None:
        used = y if protect is None else protect.labels(rows, y)  # the labels that the server computes with
        gradients = gradients_at_cut(sent, used, head_loss)
        found["labels"] = label_leakage(gradients, y, num_clues=cfg.labels.num_clues, seed=cfg.seed)
    return Leakage(num_private=len(x), num_public=len(known_x), **found)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Scene:
    """A client part in evaluation mode, with its protection."""

    part: nn.Module
    protect: Protect | None
    cfg: LeakageConfig

    def send(self, x: Tensor) -> Tensor:
        """Return the sent data of x, without a graph."""
        with torch.no_grad():
            return self.protected(torch.cat([self.part(some) for some in x.split(512)]))

    def protected(self, z: Tensor) -> Tensor:
        """Return the sent data of smashed data z."""
        return z if self.protect is None else self.protect.smashed(z, training=self.cfg.phase == "training")

    def bounded(self, z: Tensor) -> Tensor:
        """Return the sent data without noise, which an attacker can compute."""
        return z if self.protect is None else self.protect.bounded(z)

    def own_loss(self, x: Tensor, sent: Tensor) -> Tensor | None:
        """Return the client's additional loss, or None."""
        return None if self.protect is None else self.protect.extra_loss(x, sent)


def _correlations(x: Tensor, sent: Tensor, cfg: LeakageConfig) -> dict[str, object]:
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(cfg.seed))
    return {
        "dcor": mean_distance_correlation(x, sent, batch=cfg.dcor_batch),
        "dcor_if_unrelated": mean_distance_correlation(x, sent[order], batch=cfg.dcor_batch),
        "dcor_batch": min(cfg.dcor_batch, len(x)),
    }


def _invert(
    scene: _Scene, cfg: DecoderConfig, x: Tensor, y: Tensor, sent: Tensor, known_x: Tensor, known_y: Tensor
) -> dict[str, object]:
    """Fit a decoder on public samples, reconstruct the private ones, and classify the reconstructions."""
    decode = fit_decoder(scene.send(known_x), known_x, cfg, seed=scene.cfg.seed)
    guess = decode(sent)
    found: dict[str, object] = {"inversion": compare(x, guess, dcor_batch=scene.cfg.dcor_batch)}
    if cfg.judge:
        judge = train_judge(known_x, known_y, num_steps=cfg.num_steps, seed=scene.cfg.seed)
        found["judged_accuracy_frac"] = _accuracy_frac(judge, guess, y)
        found["judge_accuracy_frac"] = _accuracy_frac(judge, x, y)
    return found


def _search(scene: _Scene, cfg: UnsplitConfig, sent: Tensor, x: Tensor) -> Tensor:
    clone = copy.deepcopy(scene.part)
    if not cfg.knows_weights:
        forget_weights(clone, seed=scene.cfg.seed)
    return unsplit(sent, x.shape[1:], clone, cfg, seed=scene.cfg.seed, bound=scene.bounded)


def train_judge(x: Tensor, y: Tensor, *, num_steps: int, seed: int, width: int = 256, batch: int = 64) -> nn.Module:
    """Return an independent classifier: an MLP with one hidden layer, trained with Adam.

    Args:
        x: Inputs [m, ...].
        y: Labels [m] int64.
        num_steps: Number of training steps.
        seed: Seed of weights and batches.
        width: Width of the hidden layer.
        batch: Batch size.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = (x[0].numel(), width, int(y.max()) + 1)
        judge = nn.Sequential(nn.Flatten(), nn.Linear(*sizes[:2]), nn.ReLU(), nn.Linear(*sizes[1:])).to(x.device)
    optimizer = torch.optim.Adam(judge.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(num_steps):
        rows = torch.randint(len(x), (batch,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(judge(x[rows]), y[rows]).backward()
        optimizer.step()
    return judge.eval()


def _accuracy_frac(judge: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((judge(x).argmax(1) == y).double().mean())


def _some(samples: Labelled, num: int, seed: int) -> Tensor:
    """Return the rows of at most `num` samples in a seeded order."""
    return torch.randperm(len(samples.x), generator=torch.Generator().manual_seed(seed))[:num]


def _refuse_tokens(x: Tensor, cfg: LeakageConfig) -> None:
    asked = [name for name in ("dcor", "decoder", "unsplit", "fsha") if getattr(cfg, name)]
    if asked and not x.is_floating_point():
        raise UsageError(
            f"leakage.{asked[0]} compares real-valued inputs, but these are tokens",
            hint="for tokens only leakage.labels can be measured",
        )
