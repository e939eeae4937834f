"""Continual training of the edge model and its miner on frames that the cloud labeled.

    buffer.add(frame) ... due? -> BatchNorm refresh -> K Adam steps of weighted cross-entropy
    -> push as bytes, and the edge's weights after it -> hold-out gate: accept or roll back
    -> fit the miner to the current net -> new version

The evaluated net is the one that the edge will have after the push, with rounded or partial weights. Training continues
from it, so edge and trainer have identical weights. LAECIPS (arXiv 2404.10498) trains edge model and strategy from a
replay buffer with the cloud's labels; loss, gate and sizes are not published, these are ours.

Shapes: B frames, C classes, H x W pixels.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeai.collab.config.policy import UpdateConfig
from edgeai.collab.learning.batchnorm import BatchNormPrior, batchnorm_layers, refresh_batchnorm
from edgeai.collab.learning.miner_fit import fit_miner, miner_batch
from edgeai.collab.learning.replay_batches import device_of, eval_batches, evenly, images_of, miou_on, targets_of
from edgeai.collab.learning.replay_buffer import ReplayBuffer
from edgeai.collab.learning.version import UpdateResult, Version
from edgeai.collab.metrics.confusion import IGNORE
from edgeai.collab.models.seg_model import SegModel, trainable_net
from edgeai.collab.models.state import copy_state
from edgeai.collab.policy.miner import Miner
from edgeai.collab.wire.model_push import apply_push, encode_push, largest_changes
from edgeai.core.errors import EdgeAIError

_SAMPLE_STREAM = 0x7247  # separates these draws from others with the same seed


@dataclass(frozen=True)
class _Gated:
    """Outcome of the hold-out gate."""

    accepted: bool = False
    push: bytes = b""
    miou_before: float | None = None
    miou_after: float | None = None


class Trainer:
    """Trains an edge model and a miner on the labeled frames in `buffer`.

    Args:
        model: Copy of the edge model; trained in place, in eval mode between updates.
        miner: Copy of the miner; trained in place.
        config: Update settings.
        seed: Seed of the batches and of the replay buffer.

    Raises:
        UsageError: The model is frozen.
    """

    def __init__(self, model: SegModel, miner: Miner, config: UpdateConfig, seed: int) -> None:
        self._model, self._miner, self._config = model, miner, config
        self._net = trainable_net(model)
        self._net.eval()
        self._device = device_of(model)
        self._prior = BatchNormPrior.of(self._net, config.refresh_prior)
        self._seed = seed
        self.buffer = ReplayBuffer(config.replay, seed)
        self.version = Version.of(0, self._net.state_dict(), miner.state_dict())
        self._num_updates = 0
        self._num_learned = 0
        self._last_s = 0.0

    def due(self, time_s: float) -> bool:
        """Return whether an update should start."""
        num_new = self.buffer.num_added - self._num_learned
        waited = time_s - self._last_s >= self._config.every_s
        return num_new >= self._config.every_frames or (waited and num_new > 0)

    def update(self, time_s: float) -> UpdateResult:
        """Train, evaluate, and create a version if anything changed.

        Args:
            time_s: Current time.
        """
        begin_s = time.perf_counter()
        config, old = self._config, self.version
        rng = np.random.default_rng((self._seed, _SAMPLE_STREAM, self._num_updates))
        self._num_updates, self._num_learned, self._last_s = self._num_updates + 1, self.buffer.num_added, time_s
        refreshed = self._refresh()
        num_steps = self._train(rng)
        gated = self._gate(old) if refreshed or num_steps else _Gated()
        miner_push = self._fit_miner(old, rng)
        if gated.accepted or miner_push:
            self.version = Version.of(old.number + 1, self._net.state_dict(), self._miner.state_dict())
        measured_s = time.perf_counter() - begin_s
        return UpdateResult(
            version=self.version,
            accepted=gated.accepted,
            miner_accepted=bool(miner_push),
            miou_before=gated.miou_before,
            miou_after=gated.miou_after,
            num_steps=num_steps,
            compute_s=measured_s if config.compute_s is None else config.compute_s,
            net_push=gated.push,
            miner_push=miner_push,
        )

    def _refresh(self) -> bool:
        """Recompute BatchNorm statistics; with the gate, keep them if the mIoU on the same frames does not fall."""
        items = self.buffer.newest(self._config.refresh_frames)
        if not (self._config.refresh_batchnorm and items):
            return False
        before, old = miou_on(self._model, items), copy_state(self._net.state_dict())
        batches = [images_of(batch, self._device) for batch in eval_batches(items)]
        if not refresh_batchnorm(self._net, self._model.forward_batch, batches, prior=self._prior):
            return False
        after = miou_on(self._model, items)
        if self._config.gate and before is not None and after is not None and after < before:
            self._net.load_state_dict(old)
            return False
        return True

    def _train(self, rng: np.random.Generator) -> int:
        """Take Adam steps with fixed BatchNorm statistics, and return their number."""
        config = self._config
        named = self._trained_parameters()
        optimizer = torch.optim.Adam(named.values(), lr=config.lr)
        start = {name: parameter.detach().clone() for name, parameter in named.items()}
        masks: dict[str, Tensor] = {}
        for step in range(config.steps):
            items = self.buffer.sample(config.batch, rng)
            if not items:
                return step
            optimizer.zero_grad()
            logits, _ = self._model.forward_batch(images_of(items, self._device))
            labels, weights = (target.to(self._device) for target in targets_of(items))
            weighted_cross_entropy(logits, labels, weights).backward()
            if config.push == "delta" and not masks:
                masks = _largest_gradients(named, config.push_frac)
            optimizer.step()
            with torch.no_grad():
                for name, mask in masks.items():
                    named[name].copy_(torch.where(mask, named[name], start[name]))
        optimizer.zero_grad()
        return config.steps

    def _trained_parameters(self) -> dict[str, torch.nn.Parameter]:
        named = dict(self._net.named_parameters())
        if self._config.parameters == "all":
            return named
        affine = {id(p) for layer in batchnorm_layers(self._net) for p in layer.parameters(recurse=False)}
        return {name: parameter for name, parameter in named.items() if id(parameter) in affine}

    def _gate(self, old: Version) -> _Gated:
        """Accept the trained net or restore the old one, by the mIoU on held-out frames."""
        trained = copy_state(self._net.state_dict())
        self._net.load_state_dict(dict(old.net))
        before = self._holdout_miou()
        try:
            push = encode_push(trained, old.net, self._config.push, frac=self._config.push_frac)
        except EdgeAIError:  # diverged: a value is not finite
            return _Gated(miou_before=before)
        self._net.load_state_dict(apply_push(push, old.net))
        after = self._holdout_miou()
        # without held-out frames there is no evidence against the trained net
        if not self._config.gate or before is None or after is None or after >= before - self._config.max_drop:
            return _Gated(True, push, before, after)
        self._net.load_state_dict(dict(old.net))
        return _Gated(miou_before=before, miou_after=after)

    def _holdout_miou(self) -> float | None:
        return miou_on(self._model, evenly(self.buffer.holdout(), self._config.gate_frames))

    def _fit_miner(self, old: Version, rng: np.random.Generator) -> bytes:
        """Fit the miner to the current net, and return its push; no bytes if it did not change."""
        config = self._miner.config
        learn = miner_batch(self._model, self.buffer.sample_all(config.num_frames, rng), config.measure)
        if not config.steps or learn is None or len(learn.inputs) < config.min_frames:
            return b""
        holdout = miner_batch(self._model, evenly(self.buffer.holdout(), self._config.gate_frames), config.measure)
        return fit_miner(self._miner, old.miner, learn, holdout, gate=self._config.gate)


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean cross-entropy of the pixels [].

    Args:
        logits: Class logits [B,C,H,W].
        labels: Classes; IGNORE pixels are not counted [B,H,W].
        weights: Pixel weights in [0,1] [B,H,W].
    """
    losses = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    weights = weights * (labels != IGNORE)
    return (losses * weights).sum() / weights.sum().clamp_min(1e-6)


def _largest_gradients(named: Mapping[str, Tensor], frac: float) -> dict[str, Tensor]:
    """Return masks of the share `frac` of the parameters with the largest gradients.

    AMS selects those that change most in one step of its persistent Adam; the first step of a new Adam changes all
    parameters equally.
    """
    gradients = copy_state({name: p.grad for name, p in named.items() if p.grad is not None})
    masks = largest_changes(gradients, {name: torch.zeros_like(g) for name, g in gradients.items()}, frac)
    return {name: mask.to(named[name].device) for name, mask in masks.items()}
