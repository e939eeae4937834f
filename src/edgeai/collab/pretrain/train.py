"""`edgeai collab pretrain`: random scenes to the weights of the edge net, the cloud net or sam-tiny.

Run directory: best/ and last/ (weights), state.pt (everything a resumed run needs), metrics.jsonl.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeai.collab.config.pretrain import EdgePart, PretrainConfig, SamPart, WideScenes
from edgeai.collab.models.checkpoint import load_model, shipped_checkpoint
from edgeai.collab.pretrain.recipes import Part, SamTinyPart, SegPart
from edgeai.collab.pretrain.scenes import Scenes, draws_of
from edgeai.core.checkpoint import check_finite, load_state, save_state, warmup_cosine
from edgeai.core.device import peak_memory_bytes
from edgeai.core.run import Run
from edgeai.core.seed import seed_everything

DRAW_STEP = 3  # keeps the draws of a step apart from those of its scenes


@dataclass(frozen=True)
class PretrainReport:
    """Outcome of a pretraining run."""

    part: str
    """edge, cloud or sam."""
    weights: str
    """Folder of the best weights."""
    digest: str
    """Of the best weights as they read back."""
    num_parameters: int
    num_steps: int
    scenes_seen: int
    score: float
    """Of the best weights on validation scenes: mIoU of a net; mean IoU of sam-tiny's masks."""
    val: dict[str, float]
    """All that was measured of them then."""
    train_s: float
    peak_memory_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def run_pretrain(cfg: PretrainConfig, run: Run, *, resume: bool = False) -> PretrainReport:
    """Train one part.

    Args:
        cfg: What to train.
        run: Run directory.
        resume: Continue from the run's state.pt (from the start if there is none yet).

    Raises:
        UsageError: init_from does not fit.
        EdgeAIError: Not a finite loss, or a full disk.
    """
    seed_everything(cfg.seed)
    scenes, classes = build_scenes(cfg)
    loop = _Loop(cfg, run, build_part(cfg, classes, run.device), scenes)
    loaded = resume and loop.load()
    loop.run_all(fresh=not loaded)
    return loop.report()


def build_part(cfg: PretrainConfig, classes: tuple[str, ...], device: str) -> Part:
    """What is trained, with its first weights.

    Raises:
        UsageError: init_from is not there or does not fit.
    """
    part, start = cfg.part, cfg.init_from
    if start == "shipped":
        start = shipped_checkpoint("sam-tiny" if part.kind == "sam" else f"street-{part.kind}", part.kind)
    if isinstance(part, SamPart):
        tiny = SamTinyPart(part, len(classes), device)
        if start is not None:
            tiny.start_from(start)
        return tiny
    net = SegPart(part.net, classes, device)
    if start is not None:
        net.start_from(load_model(start, device), start)
    return net


def build_scenes(cfg: PretrainConfig) -> tuple[Scenes, tuple[str, ...]]:
    """The scenes a config asks for, and their classes; the edge net sees clear ones of base looks only.

    Raises:
        UsageError: The source cannot be used.
    """
    part = cfg.part
    draw, draw_val, classes = draws_of(cfg.source, cfg.seed)
    wide = WideScenes(drift_frac=0.0, new_looks_frac=0.0) if isinstance(part, EdgePart) else part
    scenes = Scenes(
        cfg.seed,
        drift_frac=wide.drift_frac,
        max_level=wide.max_level,
        new_looks_frac=wide.new_looks_frac,
        draw=draw,
        draw_val=draw_val,
    )
    return scenes, classes


class _Loop:
    """State of the training loop and what may be done with it."""

    def __init__(self, cfg: PretrainConfig, run: Run, part: Part, scenes: Scenes) -> None:
        self.cfg, self.run, self.part, self.scenes = cfg, run, part, scenes
        self.val_scenes = self.scenes.val(cfg.val_scenes)
        self.optimizer = torch.optim.AdamW(_groups(part.module, cfg.optim.weight_decay), lr=cfg.optim.lr)
        self.step = 0
        self.best: dict[str, float] = {}
        self.best_digest = ""
        self.train_s = 0.0

    def run_all(self, *, fresh: bool) -> None:
        """Train to the end, validating and saving on the way; `fresh` if no state was loaded."""
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
        """Measure, and keep the weights as `last`, as `best` if they are, and the whole state for a resume."""
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
        """The outcome."""
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
    """Parameters for AdamW: matrices and kernels decay, biases and norms do not."""
    parameters = list(module.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
