"""`edgeai collab pretrain`: train the edge net, the cloud net or sam-tiny on random scenes.

Run directory: best/ and last/ (weights), state.pt (everything a resumed run needs), metrics.jsonl.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeai.collab.config.pretrain import PretrainConfig
from edgeai.collab.pretrain.build import build_part, build_scenes
from edgeai.collab.pretrain.part import Part
from edgeai.collab.pretrain.scenes import Scenes
from edgeai.collab.reports.pretrain_report import PretrainReport
from edgeai.core.checkpoint import check_finite, load_state, save_state, warmup_cosine
from edgeai.core.device import peak_memory_bytes
from edgeai.core.run import Run
from edgeai.core.seed import seed_everything

DRAW_STEP = 3  # separates the draws of a step from those of its scenes


def run_pretrain(cfg: PretrainConfig, run: Run, *, resume: bool = False) -> PretrainReport:
    """Train one part.

    Args:
        cfg: What to train.
        run: Run directory.
        resume: Continue from the run's state.pt (from the start if there is none yet).

    Raises:
        UsageError: The weights in init_from do not match.
        EdgeAIError: The loss is not finite, or the disk is full.
    """
    seed_everything(cfg.seed)
    scenes, classes = build_scenes(cfg)
    loop = _Loop(cfg, run, build_part(cfg, classes, run.device), scenes)
    loaded = resume and loop.load()
    loop.run_all(fresh=not loaded)
    return loop.report()


class _Loop:
    """The training loop and its state."""

    def __init__(self, cfg: PretrainConfig, run: Run, part: Part, scenes: Scenes) -> None:
        self.cfg, self.run, self.part, self.scenes = cfg, run, part, scenes
        self.val_scenes = self.scenes.val(cfg.val_scenes)
        self.optimizer = torch.optim.AdamW(_groups(part.module, cfg.optim.weight_decay), lr=cfg.optim.lr)
        self.step = 0
        self.best: dict[str, float] = {}
        self.best_digest = ""
        self.train_s = 0.0

    def run_all(self, *, fresh: bool) -> None:
        """Train to the end, with validation and checkpoints; `fresh` means that no state was loaded."""
        self.run.metrics.rewind(-1 if fresh else self.step)
        while self.step < self.cfg.steps:
            begin = time.monotonic()
            values = self._train_step()
            self.step += 1
            self.train_s += time.monotonic() - begin
            self.run.metrics.log(self.step, values)
            self.run.metrics.progress("pretrain", self.step, self.cfg.steps, unit="steps", loss=values["loss"])
            if self.step == self.cfg.steps or self.step % self.cfg.val_every == 0:
                self._validate()

    def _train_step(self) -> dict[str, float]:
        optim = self.cfg.optim
        lr = warmup_cosine(self.step, self.cfg.steps, lr=optim.lr, warmup_frac=optim.warmup_frac)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.part.module.train()
        self.optimizer.zero_grad()
        rng = np.random.default_rng((self.cfg.seed, DRAW_STEP, self.step))
        loss, values = self.part.loss(self.scenes.train(self.step, optim.batch), rng)
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(self.part.module.parameters(), optim.clip_norm))
        self._check_finite(self.step + 1, values["loss"], norm)
        self.optimizer.step()
        return {**values, "lr": lr, "grad_norm": norm}

    def _validate(self) -> None:
        """Validate, and save the weights as `last`, also as `best` if they are, and the state for --resume."""
        self.part.module.eval()
        val = self.part.validate(self.val_scenes)
        self._check_finite(self.step, *val.values())
        self.run.metrics.log(self.step, {f"val_{name}": value for name, value in val.items()})
        found = ", ".join(f"{name} {value:.3f}" for name, value in val.items())
        self.run.metrics.note(f"step {self.step}: validation {found}")
        provenance = {
            "command": "edgeai collab pretrain",
            "config": self.cfg.model_dump(mode="json"),
            "step": self.step,
            "val": val,
        }
        self.part.save(self.run.path / "last", provenance)
        if val["score"] > self.best.get("score", -math.inf):
            self.best = val
            self.best_digest = self.part.save(self.run.path / "best", provenance)
        self._save_state()

    def _save_state(self) -> None:
        state = {
            "module": self.part.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "best": self.best,
            "best_digest": self.best_digest,
            "train_s": self.train_s,
        }
        save_state(self.run.path, state)

    def load(self) -> bool:
        """Restore the checkpoint, if there is one; return whether there is."""
        state = load_state(self.run.path, device=self.run.device)
        if state is None:
            return False
        self.part.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.best, self.best_digest = state["step"], state["best"], state["best_digest"]
        self.train_s = state["train_s"]
        return True

    def _check_finite(self, step: int, *values: float) -> None:
        check_finite(values, step=step, last=self.run.path / "last", lr_key="optim.lr", lr=self.cfg.optim.lr)

    def report(self) -> PretrainReport:
        """Return the result."""
        return PretrainReport(
            part=self.cfg.part.kind,
            weights=str(self.run.path / "best"),
            digest=self.best_digest,
            num_parameters=sum(p.numel() for p in self.part.module.parameters()),
            num_steps=self.step,
            scenes_seen=self.step * self.cfg.optim.batch,
            score=self.best["score"],
            val=self.best,
            train_s=self.train_s,
            peak_memory_bytes=peak_memory_bytes(),
        )


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the parameter groups of AdamW: weight decay for matrices and kernels, none for biases and norms."""
    parameters = list(module.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
