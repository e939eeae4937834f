"""`edgeai spec train`: train a draft head in one or two phases.

Files of the run directory: answers.jsonl (answers of the target), features/ (cached target states), best/ and last/
(heads), state.pt (checkpoint for --resume), formats.json (runtime and number formats in use), metrics.jsonl.
"""

from __future__ import annotations

import time

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from edgeai.core.checkpoint import check_finite, load_state, save_state
from edgeai.core.device import peak_memory_bytes, release_memory
from edgeai.core.errors import UsageError
from edgeai.core.run import Run
from edgeai.core.seed import rng_state, seed_everything, set_rng_state
from edgeai.spec.config.train import TrainConfig
from edgeai.spec.data.train_batch import step_counts
from edgeai.spec.draft.checkpoint import save_head
from edgeai.spec.draft.eagle3 import head_rotary
from edgeai.spec.draft.head_checks import check_fit
from edgeai.spec.training.distributed import ALONE, Ranks
from edgeai.spec.training.gto.groups import check_room_for_groups
from edgeai.spec.training.gto.objective import GroupTreeObjective
from edgeai.spec.training.gto.phase import GtoPhase
from edgeai.spec.training.losses import TrainingTimeTest, step_means
from edgeai.spec.training.optimizers import build_optimizers, learning_rate
from edgeai.spec.training.phase import Phase, TokenPhase
from edgeai.spec.training.prepare import Prepared, prepare, settle_target
from edgeai.spec.training.steps import Step, plan_steps
from edgeai.spec.training.train_report import TrainReport
from edgeai.spec.training.validation import validate


def run_train(cfg: TrainConfig, run: Run, *, ranks: Ranks = ALONE, resume: bool = False) -> TrainReport:
    """Train an EAGLE-3 head.

    Args:
        cfg: Configuration of the run.
        run: Run directory; `run.path` is the same on all ranks.
        ranks: Rank of this process and number of processes.
        resume: Whether to continue from the checkpoint of the run, if there is one.

    Raises:
        EdgeAIError: The loss is NaN or infinite, the disk is full, or the input cannot be used.
    """
    if cfg.optim.grad_accum % ranks.world:
        raise UsageError(
            f"optim.grad_accum {cfg.optim.grad_accum} is not divisible by the {ranks.world} processes",
            hint=f"set optim.grad_accum to a multiple of {ranks.world}",
        )
    target, formats = settle_target(cfg, run, ranks, aux_layers=cfg.head.aux_layers)
    seed_everything(cfg.seed)
    ready = prepare(cfg, run, ranks, target)
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
    loop = _Loop(cfg, run, ranks, ready, token_loss, muon_dtype=getattr(torch, formats["muon"]))
    loaded = resume and loop.load()
    loop.run_all(fresh=not loaded)
    ranks.wait()
    return loop.report()


class _Loop:
    """The training loop and its state."""

    def __init__(
        self,
        cfg: TrainConfig,
        run: Run,
        ranks: Ranks,
        ready: Prepared,
        token_loss: TrainingTimeTest,
        *,
        muon_dtype: torch.dtype,
    ) -> None:
        self.cfg, self.run, self.ranks, self.ready = cfg, run, ranks, ready
        self.token_loss, self.muon_dtype = token_loss, muon_dtype
        self.objective = GroupTreeObjective(token_loss, epsilon=cfg.gto.epsilon)
        self.module = DistributedDataParallel(self.objective) if ranks.world > 1 else self.objective
        check_fit(ready.head, ready.target)
        self.steps = plan_steps(cfg, ready.train)
        self.num_token_steps = sum(not step.is_gto for step in self.steps)
        if cfg.phase != "tokens":  # checked now, not after the token phase
            for texts in (ready.train, ready.val):
                check_room_for_groups(cfg.gto, ready.target, texts)
        self.phase: Phase = TokenPhase(cfg, self.num_token_steps)
        self.optimizers = build_optimizers(self.phase.optim, ready.head, muon_dtype=muon_dtype)
        self.step = 0
        self.tokens_seen = 0
        self.best_accept_len = 0.0
        self.reference_accept_len: float | None = None
        self.val: dict[str, float] = {}
        self.train_s = 0.0

    def run_all(self, *, fresh: bool = True) -> None:
        """Train to the end, validating and saving on the way.

        Args:
            fresh: Whether the run starts from the beginning, not from a checkpoint.
        """
        total = len(self.steps)
        self.run.metrics.rewind(-1 if fresh else self.step)
        if fresh and self.cfg.init_from:  # the accept_len of the given head is the reference
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
            starts_gto = self.step == self.num_token_steps < total
            if starts_gto:
                self._begin_gto()
            if starts_gto or self.step == total or self.step % self.cfg.val_every == 0:
                self._validate(is_reference=starts_gto)
                self.save()

    def _begin_gto(self) -> None:
        """Switch to the GTO phase, with the current head as its reference and a new optimizer."""
        num_steps = len(self.steps) - self.num_token_steps
        self.phase = GtoPhase(
            self.cfg, self.ready, self.objective, first_step=self.num_token_steps, num_steps=num_steps
        )
        self.optimizers = build_optimizers(self.phase.optim, self.ready.head, muon_dtype=self.muon_dtype)

    def _train_step(self, step: Step) -> dict[str, float]:
        """Run one optimizer step over `grad_accum` micro-batches, each rank taking its share."""
        cfg, ready, phase = self.cfg, self.ready, self.phase
        num_steps = phase.num_draft_steps(self.step)
        lr = learning_rate(phase.optim, self.step - phase.first_step, phase.num_steps)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
        # all rows of the optimizer step have the same weight, regardless of their batch and rank
        members = [ready.train[n] for n in step.numbers]
        weights = torch.tensor([cfg.loss.step_decay**i for i in range(num_steps)])
        scale = weights / step_counts(members, num_steps).clamp_min(1) * self.ranks.world
        scale = scale.to(ready.target.device)
        trees = phase.begin_step(step, self.ranks.world)
        ready.head.zero_grad()
        sums = []
        for batch in step.batches[self.ranks.rank :: self.ranks.world]:
            paths = trees.paths(ready.head, batch)
            loss, token_sums, path_sums = self.module(
                ready.train_features.batch(batch), num_steps, scale, paths, trees.path_scale
            )
            loss.backward()
            sums.append(token_sums)
            trees.add(path_sums)
        norm = float(nn.utils.clip_grad_norm_(ready.head.parameters(), cfg.optim.clip_norm))
        values = step_means(sums, self.ranks)
        values["loss"] = sum(values[f"loss_{i}"] * float(weights[i]) for i in range(num_steps))
        values |= trees.means(self.ranks)
        values["loss"] += trees.weight * values.get("loss_gto", 0.0)
        self._check_finite(self.step + 1, values["loss"], norm)
        for optimizer in self.optimizers:
            optimizer.step()
        self.tokens_seen += sum(c.num_answer_tokens for c in members)
        return {**values, "lr": lr, "grad_norm": norm, "ttt_steps": num_steps, "tokens_seen": self.tokens_seen}

    def _check_finite(self, step: int, *values: float) -> None:
        last = self.run.path / "last"
        check_finite(values, step=step, last=last, lr_key=self.phase.lr_key, lr=self.phase.optim.lr)

    @torch.no_grad()
    def _validate(self, *, is_reference: bool = False) -> None:
        """Validate the head; `is_reference` keeps its accept_len as the value to compare with."""
        values = validate(self.cfg, self.ready, self.token_loss)
        if is_reference:
            self.reference_accept_len = values["tree_accept_len"]
        values |= self.phase.validate(self.ready.head)
        self._check_finite(self.step, *values.values())
        self.val = {f"val_{name}": value for name, value in values.items()}
        self.run.metrics.log(self.step, {**self.val, "tokens_seen": self.tokens_seen})
        accuracies = "/".join(f"{values[f'acc_{i}']:.2f}" for i in range(self.cfg.loss.ttt_steps))
        note = f"step {self.step}: validation accuracy {accuracies}, accept_len {values['tree_accept_len']:.3f}"
        if self.reference_accept_len is not None:
            note += f" (at first {self.reference_accept_len:.3f})"
        self.run.metrics.note(note)

    def save(self) -> None:
        """Save the head as `last` (and `best`), and the checkpoint for a resume."""
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
        if self.phase.reference is not None:
            state["reference"] = self.phase.reference.state_dict()
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
        """Return the outcome of the run."""
        ready = self.ready
        return TrainReport(
            head=str(self.run.path / "best"),
            runtime=ready.target.runtime,
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
