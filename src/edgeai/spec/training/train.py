"""`edgeai spec train`: from prompts to a trained draft head, in one readable loop over one or two phases.

Run directory: answers.jsonl (what the target wrote), features/ (cached target states), best/ and last/ (heads),
state.pt (everything a resumed run needs), formats.json (number formats settled on), metrics.jsonl.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from edgeai.core.checkpoint import check_finite, load_state, save_state
from edgeai.core.device import peak_memory_bytes, release_memory
from edgeai.core.errors import UsageError
from edgeai.core.run import Run
from edgeai.core.seed import rng_state, seed_everything, set_rng_state
from edgeai.spec.config.train import TrainConfig
from edgeai.spec.data.answers import Conversation
from edgeai.spec.data.features import pack_in_order, step_counts
from edgeai.spec.decoding.generation import accept_len
from edgeai.spec.draft.checkpoint import save_head
from edgeai.spec.draft.eagle3 import HeadLayer, check_fit, head_rotary
from edgeai.spec.draft.head import DraftHead
from edgeai.spec.evaluation.replay import passages, replay
from edgeai.spec.training.distributed import ALONE, Ranks
from edgeai.spec.training.gto.objective import GroupTreeObjective
from edgeai.spec.training.gto.rollout import Rollouts, RolloutSums, check_room_for_groups, tree_means
from edgeai.spec.training.losses import StepSums, TrainingTimeTest
from edgeai.spec.training.optimizers import build_optimizers, learning_rate
from edgeai.spec.training.prepare import Prepared, prepare, settle_formats
from edgeai.spec.training.train_report import TrainReport
from edgeai.spec.training.unroll import Unroll

VAL_GROUPS = 1  # a conversation: enough places for a steady mean, and many texts
VAL_TEXTS = 64  # whose decoding is replayed: some thousand cycles


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
    cos, sin = head_rotary(ready.head.shape, ready.target)
    token_loss = TrainingTimeTest(
        ready.head,
        embedding=ready.target.embedding,
        lm_head=ready.target.lm_head,
        cos=cos,
        sin=sin,
        config=cfg.loss,
        dtype=getattr(torch, formats["products"]),
    )
    loop = _Loop(cfg, run, ranks, ready, token_loss)
    loaded = resume and loop.load()
    loop.run_all(fresh=not loaded)
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
    batches = pack_in_order(conversations, order.tolist(), batch_tokens)
    return [batches[i] for i in rng.permutation(len(batches))]


@dataclass(frozen=True)
class Step:
    """One optimiser step."""

    batches: list[list[int]]
    """Conversations of each micro-batch."""
    epoch: int
    is_gto: bool = False


def plan_steps(cfg: TrainConfig, conversations: Sequence[Conversation]) -> list[Step]:
    """All steps of a run: the token phase's, then GTO's.

    Raises:
        UsageError: There are fewer micro-batches than one step takes.
    """
    accum, steps = cfg.optim.grad_accum, list[Step]()
    num_token_epochs = 0 if cfg.phase == "gto" else cfg.epochs
    for epoch in range(num_token_epochs + (0 if cfg.phase == "tokens" else cfg.gto.epochs)):
        batches = epoch_batches(conversations, cfg.optim.batch_tokens, cfg.seed, epoch)
        if len(batches) < accum:
            raise UsageError(
                f"{len(batches)} micro-batches an epoch do not fill optim.grad_accum {accum}",
                hint="lower optim.grad_accum or optim.batch_tokens, or give more data",
            )
        is_gto = epoch >= num_token_epochs
        steps += [Step(batches[i : i + accum], epoch, is_gto) for i in range(0, len(batches) - accum + 1, accum)]
    phases = ([step for step in steps if step.is_gto == is_gto] for is_gto in (False, True))
    return [step for phase in phases for step in phase[: cfg.max_steps]]


class _Loop:
    """State of the training loop and what may be done with it."""

    def __init__(self, cfg: TrainConfig, run: Run, ranks: Ranks, ready: Prepared, token_loss: TrainingTimeTest) -> None:
        self.cfg, self.run, self.ranks, self.ready = cfg, run, ranks, ready
        self.token_loss = token_loss
        self.objective = GroupTreeObjective(token_loss, epsilon=cfg.gto.epsilon)
        self.module = DistributedDataParallel(self.objective) if ranks.world > 1 else self.objective
        check_fit(ready.head, ready.target)
        self.optim = cfg.optim
        self.optimizers = build_optimizers(self.optim, ready.head)
        self.steps = plan_steps(cfg, ready.train)
        self.num_token_steps = sum(not step.is_gto for step in self.steps)
        if cfg.phase != "tokens":  # said now, not after the token phase
            for texts in (ready.train, ready.val):
                check_room_for_groups(cfg.gto, ready.target, texts)
        self.reference: DraftHead | None = None  # of the GTO phase
        self.rollouts: Rollouts | None = None
        self.val_rollouts: Rollouts | None = None
        self.step = 0
        self.tokens_seen = 0
        self.best_accept_len = 0.0
        self.reference_accept_len: float | None = None
        self.val: dict[str, float] = {}
        self.train_s = 0.0

    def run_all(self, *, fresh: bool = True) -> None:
        """Train to the end, validating and saving on the way; `fresh` if no state was loaded."""
        total = len(self.steps)
        self.run.metrics.rewind(-1 if fresh else self.step)
        if fresh and self.cfg.init_from:  # what the given head is worth
            if self.num_token_steps == 0:
                self._begin_gto()
            self._validate(is_reference=True)
            self.save()
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
            is_turn = self.step == self.num_token_steps < total
            if is_turn:
                self._begin_gto()
            if is_turn or self.step == total or self.step % self.cfg.val_every == 0:
                self._validate(is_reference=is_turn)
                self.save()

    def _begin_gto(self) -> None:
        """Freeze the head as reference, with its trees' reward the one to beat; a new optimiser."""
        cfg, target = self.cfg.gto, self.ready.target
        self.reference = copy.deepcopy(self.ready.head).requires_grad_(False)
        cos, sin = head_rotary(self.reference.shape, target)
        unroll = Unroll(self.reference, embedding=target.embedding, cos=cos, sin=sin, dtype=self.token_loss.dtype)
        self.objective.refer_to(self.reference, unroll)
        self.optim = self.cfg.optim.model_copy(update={"lr": cfg.lr})
        self.optimizers = build_optimizers(self.optim, self.ready.head)
        few = cfg.model_copy(update={"groups": VAL_GROUPS, "text_frac": 1.0, "starts": "fixed"})
        self.rollouts, self.val_rollouts = (
            Rollouts(config, target, texts, reference=self.reference, seed=seed)
            for config, texts, seed in ((cfg, self.ready.train, self.cfg.seed), (few, self.ready.val, 0))
        )

    def _train_step(self, step: Step) -> dict[str, float]:
        """One optimiser step over `grad_accum` micro-batches, each rank taking its share."""
        cfg, ready = self.cfg, self.ready
        begin, end = (self.num_token_steps, len(self.steps)) if step.is_gto else (0, self.num_token_steps)
        num_steps = cfg.loss.ttt_steps if step.is_gto else num_draft_steps(cfg, self.step / end)
        lr = learning_rate(self.optim, self.step - begin, end - begin)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
        # every row of the whole step weighs the same, however the rows are spread over batches and ranks
        numbers = [n for batch in step.batches for n in batch]
        members = [ready.train[n] for n in numbers]
        counts = step_counts(members, num_steps).clamp_min(1)
        weights = torch.tensor([cfg.loss.step_decay**i for i in range(num_steps)])
        scale = (weights / counts * self.ranks.world).to(ready.target.device)
        path_scale = 0.0
        if self.rollouts:
            num_places = cfg.gto.group_size * sum(len(self.rollouts.starts(n, step.epoch)) for n in numbers)
            path_scale = cfg.gto.omega / max(num_places, 1) * self.ranks.world
        ready.head.zero_grad()
        sums, path_sums, played = [], [], RolloutSums()
        for batch in step.batches[self.ranks.rank :: self.ranks.world]:
            paths = None
            if self.rollouts:
                paths, part = self.rollouts.play(ready.head, batch, step.epoch)
                played += part
            loss, stats, path_stats = self.module(
                ready.train_features.batch(batch), num_steps, scale, paths, path_scale
            )
            loss.backward()
            sums.append(stats)
            path_sums.append(path_stats)
        norm = nn.utils.clip_grad_norm_(ready.head.parameters(), cfg.optim.clip_norm)
        values = _means(_add(sums), self.ranks)
        values["loss"] = sum(values[f"loss_{i}"] * float(weights[i]) for i in range(num_steps))
        if step.is_gto:
            values |= tree_means(played, path_sums, self.ranks)
            values["loss"] += cfg.gto.omega * values["loss_gto"]
        self._check_finite(self.step + 1, values["loss"], float(norm))
        for optimizer in self.optimizers:
            optimizer.step()
        self.tokens_seen += sum(c.num_answer_tokens for c in members)
        return {**values, "lr": lr, "grad_norm": float(norm), "ttt_steps": num_steps, "tokens_seen": self.tokens_seen}

    def _check_finite(self, step: int, *values: float) -> None:
        lr_key = "gto.lr" if self.reference else "optim.lr"
        check_finite(values, step=step, last=self.run.path / "last", lr_key=lr_key, lr=self.optim.lr)

    @torch.no_grad()
    def _validate(self, *, is_reference: bool = False) -> None:
        ready, steps = self.ready, self.cfg.loss.ttt_steps
        order = sorted(range(len(ready.val)), key=lambda n: len(ready.val[n].ids))
        batches = pack_in_order(ready.val, order, self.cfg.optim.batch_tokens)
        ones = torch.ones(steps, device=ready.target.device)
        sums = [self.token_loss(ready.val_features.batch(b), steps, ones)[1] for b in batches]
        values = _means(_add(sums), ALONE)
        accuracies = "/".join(f"{values[f'acc_{i}']:.2f}" for i in range(steps))
        values["tree_accept_len"] = self._tree_accept_len()
        if is_reference:
            self.reference_accept_len = values["tree_accept_len"]
        found = f"validation accuracy {accuracies}, accept_len {values['tree_accept_len']:.3f}"
        if self.reference_accept_len is not None:
            found += f" (at first {self.reference_accept_len:.3f})"
        if self.val_rollouts:
            _, played = self.val_rollouts.play(ready.head, range(len(ready.val)), 0)
            values |= played.means()
        self._check_finite(self.step, *values.values())
        self.val = {f"val_{name}": value for name, value in values.items()}
        self.run.metrics.log(self.step, {**self.val, "tokens_seen": self.tokens_seen})
        self.run.metrics.note(f"step {self.step}: {found}")

    def _tree_accept_len(self) -> float:
        """What decoding the validation text with this head would accept."""
        ready, max_tokens = self.ready, self.cfg.data.max_answer_tokens
        texts = [
            passage
            for number, talk in enumerate(ready.val[:VAL_TEXTS])
            for passage in passages(talk, ready.val_features.batch([number]).features[0], max_tokens)
        ]
        layer = HeadLayer(ready.head, ready.target.embedding)
        return accept_len(chain.from_iterable(replay(layer, ready.target, texts, self.cfg.val_tree)))

    def save(self) -> None:
        """Keep the head as `last` (and `best`) and the whole state for a resume."""
        if not self.ranks.is_first:
            return
        save_head(self.run.path / "last", self.ready.head, self.ready.target, self.val)
        if self.val["val_tree_accept_len"] > self.best_accept_len:
            self.best_accept_len = self.val["val_tree_accept_len"]
            save_head(self.run.path / "best", self.ready.head, self.ready.target, self.val)
        state = {
            "head": self.ready.head.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "tokens_seen": self.tokens_seen,
            "best_accept_len": self.best_accept_len,
            "reference_accept_len": self.reference_accept_len,
            "train_s": self.train_s,
            "val": self.val,
            "rng": rng_state(),
        }
        if self.reference:
            state["reference"] = self.reference.state_dict()
        save_state(self.run.path, state)

    def load(self) -> bool:
        """Restore the checkpoint, if there is one; return whether there is."""
        state = load_state(self.run.path, device=str(self.ready.target.device))
        if state is None:
            return False
        if "reference" in state:
            self.ready.head.load_state_dict(state["reference"])
            self._begin_gto()
        self.ready.head.load_state_dict(state["head"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.tokens_seen, self.val = state["step"], state["tokens_seen"], state["val"]
        self.best_accept_len, self.train_s = state["best_accept_len"], state["train_s"]
        self.reference_accept_len = state["reference_accept_len"]
        set_rng_state(state["rng"])
        return True

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
            reference_accept_len=self.reference_accept_len,
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
