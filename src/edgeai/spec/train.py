"""`edgeai spec train`: from prompts to a trained draft head, in one readable loop.

Run directory: answers.jsonl (what the target wrote), features/ (cached target states), best/ and last/ (heads),
state.pt (everything a resumed run needs), formats.json (number formats settled on), metrics.jsonl.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from edgeai.core.device import peak_memory_bytes, release_memory
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.run import Run
from edgeai.core.seed import rng_state, seed_everything, set_rng_state
from edgeai.spec.answers import Conversation
from edgeai.spec.checkpoint import save_head
from edgeai.spec.features import pack, step_counts
from edgeai.spec.losses import StepSums, TrainingTimeTest
from edgeai.spec.optim import build_optimizers, learning_rate
from edgeai.spec.parallel import ALONE, Ranks
from edgeai.spec.prepare import Prepared, prepare, settle_formats
from edgeai.spec.schema import TrainConfig


@dataclass(frozen=True)
class TrainReport:
    """Outcome of a training run."""

    head: str
    """Folder of the best head."""
    num_parameters: int
    num_steps: int
    num_conversations: int
    num_answer_tokens: int
    """Answer tokens in the training split."""
    tokens_seen: int
    """Answer tokens trained on, repeats counted."""
    coverage_frac: float
    """Share of the answers' tokens that the draft vocabulary holds."""
    accept_len: float
    """Simulated on validation text: 1 + expected length of a greedily drafted chain of ttt_steps."""
    step_accuracy: tuple[float, ...]
    """Draft argmax equals the target's, by draft step, on validation text."""
    train_s: float
    peak_memory_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def run_train(cfg: TrainConfig, run: Run, *, ranks: Ranks = ALONE, resume: bool = False) -> TrainReport:
    """Train an EAGLE-3 head.

    Args:
        cfg: What to train and on what.
        run: Run directory; `run.path` is the same on all ranks.
        ranks: This process among those of torchrun.
        resume: Continue from the run's state.pt (from the start if there is none yet).

    Raises:
        EdgeAIError: Not a finite loss, full disk, or unusable input.
    """
    if cfg.optim.grad_accum % ranks.world:
        raise UsageError(
            f"optim.grad_accum {cfg.optim.grad_accum} cannot be shared by {ranks.world} processes",
            hint=f"set optim.grad_accum to a multiple of {ranks.world}",
        )
    formats = settle_formats(cfg, run, ranks)
    seed_everything(cfg.seed)
    ready = prepare(cfg, run, ranks, target_dtype=formats["target"])
    module: nn.Module = TrainingTimeTest(
        ready.head,
        embedding=ready.target.embedding,
        lm_head=ready.target.lm_head,
        cos=ready.target.decoder.cos,
        sin=ready.target.decoder.sin,
        config=cfg.loss,
        dtype=getattr(torch, formats["products"]),
    )
    loop = _Loop(cfg, run, ranks, ready, module)
    if resume:
        loop.load()
    loop.run_all()
    ranks.wait()
    return loop.report()


def num_draft_steps(cfg: TrainConfig, progress: float) -> int:
    """Unrolled steps at this share of training: short rollouts teach the first step cheaply, long ones come later."""
    if progress >= cfg.loss.ttt_ramp_frac:
        return cfg.loss.ttt_steps
    return min(cfg.loss.ttt_steps, 1 + int(cfg.loss.ttt_steps * progress / cfg.loss.ttt_ramp_frac))


def epoch_batches(conversations: Sequence[Conversation], batch_tokens: int, seed: int, epoch: int) -> list[list[int]]:
    """Micro-batches of one epoch: shuffled, neighbours of like length together, in shuffled order."""
    rng = np.random.default_rng((seed, 2, epoch))
    order = rng.permutation(len(conversations))
    window = 256  # sorting within windows keeps padding low and batches still random
    order = np.concatenate(
        [sorted(order[i : i + window], key=lambda n: len(conversations[n].ids)) for i in range(0, len(order), window)]
    )
    batches = [
        [int(order[n]) for n in batch] for batch in pack([len(conversations[n].ids) for n in order], batch_tokens)
    ]
    return [batches[i] for i in rng.permutation(len(batches))]


class _Loop:
    """State of the training loop and what may be done with it."""

    def __init__(self, cfg: TrainConfig, run: Run, ranks: Ranks, ready: Prepared, module: nn.Module) -> None:
        self.cfg, self.run, self.ranks, self.ready = cfg, run, ranks, ready
        self.plain_module = module
        self.module = DistributedDataParallel(module) if ranks.world > 1 else module
        self.optimizers = build_optimizers(cfg.optim, ready.head)
        epochs = [epoch_batches(ready.train, cfg.optim.batch_tokens, cfg.seed, epoch) for epoch in range(cfg.epochs)]
        accum = cfg.optim.grad_accum
        self.steps = [epoch[i : i + accum] for epoch in epochs for i in range(0, len(epoch) - accum + 1, accum)]
        if not self.steps:
            raise UsageError(
                f"{len(epochs[0])} micro-batches an epoch do not fill optim.grad_accum {accum}",
                hint="lower optim.grad_accum or optim.batch_tokens, or give more data",
            )
        self.step = 0
        self.tokens_seen = 0
        self.best_accept_len = 0.0
        self.val: dict[str, float] = {}
        self.train_s = 0.0

    def run_all(self) -> None:
        """Train to the end, validating and saving on the way."""
        total = len(self.steps)
        self.run.metrics.rewind(self.step)
        while self.step < total:
            begin = time.monotonic()
            values = self._train_step(self.steps[self.step])
            self.step += 1
            if self.ready.target.device.type == "cpu":
                release_memory()
            self.train_s += time.monotonic() - begin
            self.run.metrics.log(self.step, values)
            self.run.metrics.progress(
                "train", self.step, total, unit="steps", loss=values["loss"], accuracy=values["acc_0"]
            )
            if self.step % self.cfg.val_every == 0 or self.step == total:
                self._validate()
                self.save()

    def _train_step(self, batches: Sequence[Sequence[int]]) -> dict[str, float]:
        """One optimiser step over `grad_accum` micro-batches, each rank taking its share."""
        cfg, ready = self.cfg, self.ready
        steps = num_draft_steps(cfg, self.step / len(self.steps))
        lr = learning_rate(cfg.optim, self.step, len(self.steps))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
        # every row of the whole step weighs the same, however the rows are spread over batches and ranks
        members = [ready.train[n] for batch in batches for n in batch]
        counts = step_counts(members, steps).clamp_min(1)
        weights = torch.tensor([cfg.loss.step_decay**i for i in range(steps)])
        scale = (weights / counts * self.ranks.world).to(ready.target.device)
        ready.head.zero_grad()
        sums = []
        for batch in batches[self.ranks.rank :: self.ranks.world]:
            loss, stats = self.module(ready.train_features.batch(batch), steps, scale)
            loss.backward()
            sums.append(stats)
        norm = nn.utils.clip_grad_norm_(ready.head.parameters(), cfg.optim.clip_norm)
        values = _means(_add(sums), self.ranks)
        values["loss"] = sum(values[f"loss_{i}"] * float(weights[i]) for i in range(steps))
        self._check_finite(self.step + 1, values["loss"], float(norm))
        for optimizer in self.optimizers:
            optimizer.step()
        self.tokens_seen += sum(c.num_answer_tokens for c in members)
        return {**values, "lr": lr, "grad_norm": float(norm), "ttt_steps": steps, "tokens_seen": self.tokens_seen}

    def _check_finite(self, step: int, *values: float) -> None:
        """Stop before weights are spoilt or spoilt weights are saved."""
        if all(map(math.isfinite, values)):
            return
        last = self.run.path / "last"
        kept = f"the last good head is in {last}; " if last.exists() else ""
        raise EdgeAIError(
            f"the loss is not finite at step {step}",
            hint=f"{kept}train again with a lower optim.lr (now {self.cfg.optim.lr})",
        )

    @torch.no_grad()
    def _validate(self) -> None:
        ready, steps = self.ready, self.cfg.loss.ttt_steps
        order = sorted(range(len(ready.val)), key=lambda n: len(ready.val[n].ids))
        batches = [
            [order[n] for n in b] for b in pack([len(ready.val[n].ids) for n in order], self.cfg.optim.batch_tokens)
        ]
        ones = torch.ones(steps, device=ready.target.device)
        sums = [self.plain_module(ready.val_features.batch(b), steps, ones)[1] for b in batches]
        values = _means(_add(sums), ALONE)
        self._check_finite(self.step, *values.values())
        self.val = {f"val_{name}": value for name, value in values.items()}
        self.run.metrics.log(self.step, {**self.val, "tokens_seen": self.tokens_seen})
        accuracies = "/".join(f"{values[f'acc_{i}']:.2f}" for i in range(steps))
        self.run.metrics.note(
            f"step {self.step}: validation accuracy {accuracies}, simulated accept_len {values['accept_len']:.2f}"
        )

    def save(self) -> None:
        """Keep the head as `last` (and `best`) and the whole state for a resume."""
        if not self.ranks.is_first:
            return
        save_head(self.run.path / "last", self.ready.head, self.ready.target, self.val)
        if self.val["val_accept_len"] > self.best_accept_len:
            self.best_accept_len = self.val["val_accept_len"]
            save_head(self.run.path / "best", self.ready.head, self.ready.target, self.val)
        state = {
            "head": self.ready.head.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "tokens_seen": self.tokens_seen,
            "best_accept_len": self.best_accept_len,
            "train_s": self.train_s,
            "val": self.val,
            "rng": rng_state(),
        }
        partial = self.run.path / "state.partial"
        try:
            torch.save(state, partial)
            partial.replace(self.run.path / "state.pt")
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise EdgeAIError(
                f"cannot write {self.run.path}/state.pt: {error}", hint="free some space, then continue with --resume"
            ) from error

    def load(self) -> None:
        """Take up the state of an interrupted run."""
        path = self.run.path / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.ready.target.device, weights_only=True)
        self.ready.head.load_state_dict(state["head"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.tokens_seen, self.val = state["step"], state["tokens_seen"], state["val"]
        self.best_accept_len, self.train_s = state["best_accept_len"], state["train_s"]
        set_rng_state(state["rng"])

    def report(self) -> TrainReport:
        """The outcome."""
        ready = self.ready
        return TrainReport(
            head=str(self.run.path / "best"),
            num_parameters=ready.head.num_parameters(),
            num_steps=self.step,
            num_conversations=len(ready.train),
            num_answer_tokens=sum(c.num_answer_tokens for c in ready.train),
            tokens_seen=self.tokens_seen,
            coverage_frac=ready.coverage_frac,
            accept_len=self.best_accept_len,
            step_accuracy=tuple(self.val[f"val_acc_{i}"] for i in range(self.cfg.loss.ttt_steps)),
            train_s=self.train_s,
            peak_memory_bytes=peak_memory_bytes(),
        )


def _add(sums: Sequence[StepSums]) -> StepSums:
    columns = ([getattr(s, name) for s in sums] for name in ("loss", "hits", "run_hits", "count"))
    return StepSums(*(torch.stack(column).sum(0) for column in columns))


def _means(sums: StepSums, ranks: Ranks) -> dict[str, float]:
    """Per-step means over all ranks, and the simulated accept length."""
    table = ranks.sum(torch.stack([sums.loss, sums.hits, sums.run_hits, sums.count]).double())
    loss, hits, run_hits, count = table.tolist()
    values: dict[str, float] = {}
    for i in range(len(count)):
        rows = max(count[i], 1.0)
        values[f"loss_{i}"] = loss[i] / rows
        values[f"acc_{i}"] = hits[i] / rows
    # a run that the answer's end cuts short counts with the length it reached
    values["accept_len"] = 1.0 + sum(run_hits) / max(count[0], 1.0)
    return values
