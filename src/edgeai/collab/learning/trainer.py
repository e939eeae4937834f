"""The cloud's trainer: from labelled frames to a new version of the edge model and its miner.

    buffer.add(frame) ... due? -> BatchNorm refresh -> K Adam steps of weighted cross-entropy
    -> push as bytes, and what the edge will hold after it -> hold-out gate: keep or roll back
    -> fit the miner to the net that stands -> new version

The net that is judged is the one that the edge will hold, rounded and cut by its push; the trainer goes on from that
one, so edge and cloud are equal to the bit. LAECIPS (arXiv 2404.10498) trains edge model and strategy from a replay
buffer under the cloud's labels; loss, gate and sizes are not published, these are ours.

Shapes: B frames, C classes, H x W pixels, F pooled features.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeai.collab.config.policy import UpdateConfig
from edgeai.collab.learning.batchnorm import BatchNormPrior, batchnorm_layers, refresh_batchnorm
from edgeai.collab.learning.replay_buffer import ReplayBuffer, ReplayItem
from edgeai.collab.learning.version import Version, copy_state, trainable_net
from edgeai.collab.metrics.confusion import IGNORE, agreement, confusion, seg_metrics
from edgeai.collab.models.inputs import stack_images
from edgeai.collab.models.seg_model import SegModel
from edgeai.collab.policy.miner import Miner, miner_input
from edgeai.collab.policy.scores import confidence
from edgeai.collab.wire.codec import decode_image
from edgeai.collab.wire.model_push import apply_push, encode_push, largest_changes
from edgeai.core.errors import EdgeAIError

_SAMPLE_STREAM = 0x7247  # keeps the draws apart from others that use the same seed
_EVAL_BATCH = 8  # frames that are looked at together where nothing is trained: bounds memory, changes no result


@dataclass(frozen=True)
class UpdateResult:
    """What came of one update."""

    version: int
    """The version that stands now."""
    accepted: bool
    """The net's change was kept; False also if there was none."""
    miner_accepted: bool
    miou_before: float | None
    """On the held-out frames, by the cloud's labels; None if there is none, or if nothing was changed."""
    miou_after: float | None
    """Of the net that was judged, kept or not; None likewise, or if it diverged."""
    num_steps: int
    compute_s: float
    """Seconds that it took the cloud."""
    net_push: bytes
    """For `apply_push` to the edge's net; empty if it does not change."""
    miner_push: bytes
    """Likewise for its miner."""

    @property
    def num_bytes(self) -> int:
        """What goes down the link, headers aside."""
        return len(self.net_push) + len(self.miner_push)


class Updater:
    """Trains a model and a miner from what the cloud has labelled, which goes into `buffer`.

    Args:
        model: The cloud's copy of the edge model; changed in place, in eval mode between updates.
        miner: The cloud's copy of the miner; changed in place.
        config: When and how.
        seed: Of the batches and of what the buffer keeps.

    Raises:
        UsageError: The model is frozen.
    """

    def __init__(self, model: SegModel, miner: Miner, config: UpdateConfig, seed: int) -> None:
        self._model, self._miner, self._config = model, miner, config
        self._net = trainable_net(model)
        self._net.eval()
        self._device = next(self._net.parameters()).device
        self._prior = BatchNormPrior.of(self._net, config.refresh_prior)
        self._seed = seed
        self.buffer = ReplayBuffer(config.replay, seed)
        self.version = Version.of(0, self._net.state_dict(), miner.state_dict())
        self._num_updates = 0
        self._num_learned = 0
        self._last_s = 0.0

    def due(self, time_s: float) -> bool:
        """Whether it is time for an update."""
        num_new = self.buffer.num_added - self._num_learned
        waited = time_s - self._last_s >= self._config.every_s
        return num_new >= self._config.every_frames or (waited and num_new > 0)

    def update(self, time_s: float) -> UpdateResult:
        """Trains, judges, and makes a version if anything changed.

        Args:
            time_s: Now.
        """
        begin_s = time.perf_counter()
        config, old = self._config, self.version
        rng = np.random.default_rng((self._seed, _SAMPLE_STREAM, self._num_updates))
        self._num_updates, self._num_learned, self._last_s = self._num_updates + 1, self.buffer.num_added, time_s
        refreshed = self._refresh()
        num_steps = self._train(rng)
        before = after = None
        accepted, net_push = False, b""
        if refreshed or num_steps:
            accepted, net_push, before, after = self._judge(old)
        miner_accepted, miner_push = self._fit_miner(old, rng)
        if accepted or miner_accepted:
            self.version = Version.of(old.number + 1, self._net.state_dict(), self._miner.state_dict())
        measured_s = time.perf_counter() - begin_s
        return UpdateResult(
            version=self.version.number,
            accepted=accepted,
            miner_accepted=miner_accepted,
            miou_before=before,
            miou_after=after,
            num_steps=num_steps,
            compute_s=measured_s if config.compute_s is None else config.compute_s,
            net_push=net_push,
            miner_push=miner_push,
        )

    def _refresh(self) -> bool:
        """New BatchNorm statistics, if the net that has them agrees no less with the cloud on the same frames."""
        items = self.buffer.newest(self._config.refresh_frames)
        if not (self._config.refresh_batchnorm and items):
            return False
        before, old = self._miou(items), copy_state(self._net.state_dict())
        batches = [self._images(part) for part in _parts(items)]
        if not refresh_batchnorm(self._net, self._model.forward_batch, batches, prior=self._prior):
            return False
        after = self._miou(items)
        if self._config.gate and before is not None and after is not None and after < before:
            self._net.load_state_dict(old)
            return False
        return True

    def _train(self, rng: np.random.Generator) -> int:
        """Adam steps with the BatchNorm statistics held; returns how many."""
        config = self._config
        named = dict(self._net.named_parameters())
        if config.parameters == "batchnorm":
            affine = {id(p) for layer in batchnorm_layers(self._net) for p in layer.parameters(recurse=False)}
            named = {name: parameter for name, parameter in named.items() if id(parameter) in affine}
        optimizer = torch.optim.Adam(named.values(), lr=config.lr)
        start = {name: parameter.detach().clone() for name, parameter in named.items()}
        masks: dict[str, Tensor] = {}
        for step in range(config.steps):
            items = self.buffer.sample(config.batch, rng)
            if not items:
                return step
            optimizer.zero_grad()
            logits, _ = self._model.forward_batch(self._images(items))
            labels, weights = (target.to(self._device) for target in _targets(items))
            weighted_cross_entropy(logits, labels, weights).backward()
            if config.push == "delta" and not masks:
                masks = _steepest(named, config.push_frac)
            optimizer.step()
            with torch.no_grad():
                for name, mask in masks.items():
                    named[name].copy_(torch.where(mask, named[name], start[name]))
        optimizer.zero_grad()
        return config.steps

    def _judge(self, old: Version) -> tuple[bool, bytes, float | None, float | None]:
        """Whether the trained net stands, its push, held-out mIoU before and after. Leaves the net that stands."""
        trained = copy_state(self._net.state_dict())
        self._net.load_state_dict(dict(old.net))
        before = self._holdout_miou()
        try:
            push = encode_push(trained, old.net, self._config.push, frac=self._config.push_frac)
        except EdgeAIError:  # it diverged: a value is not finite
            return False, b"", before, None
        self._net.load_state_dict(apply_push(push, old.net))
        after = self._holdout_miou()
        # with nothing held out yet there is no reason against it
        if not self._config.gate or before is None or after is None or after >= before - self._config.max_drop:
            return True, push, before, after
        self._net.load_state_dict(dict(old.net))
        return False, b"", before, after

    def _holdout_miou(self) -> float | None:
        return self._miou(_evenly(self.buffer.holdout(), self._config.gate_frames))

    def _miou(self, items: Sequence[ReplayItem]) -> float | None:
        """Agreement with the cloud's labels; None without any."""
        num_classes = len(self._model.classes)
        total = np.zeros((num_classes, num_classes), dtype=np.int64)
        for part in _parts(items):
            with torch.no_grad():
                predictions = self._model.forward_batch(self._images(part))[0].argmax(1).byte().cpu().numpy()
            for item, prediction in zip(part, predictions, strict=True):
                total += confusion(item.labels_and_weight()[0], prediction, num_classes)
        metrics = seg_metrics(total)
        return None if metrics is None else metrics.miou

    def _fit_miner(self, old: Version, rng: np.random.Generator) -> tuple[bool, bytes]:
        """Fits the miner to the net that stands; takes it back where the held-out frames say so."""
        miner = self._miner
        learn = self._miner_rows(self.buffer.sample_all(miner.config.num_frames, rng))
        if not miner.config.steps or learn is None or len(learn[0]) < miner.config.min_frames:
            return False, b""
        check = self._miner_rows(_evenly(self.buffer.holdout(), self._config.gate_frames))
        before = None if check is None else _miner_loss(miner, check)
        miner.fit(*learn)
        try:
            push = encode_push(miner.state_dict(), old.miner, "full")
            miner.load_state_dict(apply_push(push, old.miner))
            worse = check is not None and before is not None and _miner_loss(miner, check) > before
        except EdgeAIError:  # it diverged
            worse = True
        if self._config.gate and worse:
            miner.load_state_dict(dict(old.miner))
            return False, b""
        return True, push

    def _miner_rows(self, items: Sequence[ReplayItem]) -> tuple[Tensor, Tensor, Tensor] | None:
        """Miner inputs [B,F+6], agreements [B] and importance weights [B] of the net as it is; None without labels."""
        rows: list[tuple[Tensor, float, float]] = []
        for part in _parts(items):
            with torch.no_grad():
                logits, pooled = self._model.forward_batch(self._images(part))
            for item, row, features in zip(part, logits, pooled, strict=True):
                labels = row.argmax(0).byte().cpu().numpy()
                measure = self._miner.config.measure
                q = agreement(labels, item.labels_and_weight()[0], len(self._model.classes), measure)
                if q is not None:
                    rows.append((miner_input(features, confidence(row.softmax(0))), q, item.importance))
        if not rows:
            return None
        inputs, agreements, weights = zip(*rows, strict=True)
        return torch.stack(inputs), torch.tensor(agreements), torch.tensor(weights)

    def _images(self, items: Sequence[ReplayItem]) -> Tensor:
        """Decoded images [B,H,W,3] uint8."""
        images = [decode_image(item.image, (item.height, item.width)) for item in items]
        return stack_images(images, self._device)


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Mean cross-entropy of the pixels, by weight [].

    Args:
        logits: [B,C,H,W].
        labels: Classes; IGNORE counts nowhere [B,H,W].
        weights: In [0,1] [B,H,W].
    """
    losses = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    weights = weights * (labels != IGNORE)
    return (losses * weights).sum() / weights.sum().clamp_min(1e-6)


def _steepest(named: Mapping[str, Tensor], frac: float) -> dict[str, Tensor]:
    """Masks of the share `frac` of the parameters with the largest gradients.

    AMS takes those that one step of its long-lived Adam moves most; the first step of a fresh Adam moves all alike.
    """
    gradients = copy_state({name: p.grad for name, p in named.items() if p.grad is not None})
    masks = largest_changes(gradients, {name: torch.zeros_like(g) for name, g in gradients.items()}, frac)
    return {name: mask.to(named[name].device) for name, mask in masks.items()}


def _miner_loss(miner: Miner, rows: tuple[Tensor, Tensor, Tensor]) -> float:
    with torch.no_grad():
        return float(miner.loss(*rows))


def _targets(items: Sequence[ReplayItem]) -> tuple[Tensor, Tensor]:
    """Labels [B,H,W] int64 and weights [B,H,W]."""
    labels, weights = zip(*(item.labels_and_weight() for item in items), strict=True)
    return torch.from_numpy(np.stack(labels).astype(np.int64)), torch.from_numpy(np.stack(weights))


def _parts(items: Sequence[ReplayItem]) -> list[Sequence[ReplayItem]]:
    return [items[place : place + _EVAL_BATCH] for place in range(0, len(items), _EVAL_BATCH)]


def _evenly(items: Sequence[ReplayItem], num: int) -> list[ReplayItem]:
    """At most `num` items, spread over all, the last among them."""
    count = min(num, len(items))
    return [items[len(items) - 1 - place * len(items) // count] for place in range(count)]
