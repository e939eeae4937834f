"""The tiny model as a folder, text it wrote, and a training config over it that runs in about a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeai.core.metrics import Metrics
from edgeai.core.run import Run
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.config.train import DataConfig, HeadConfig, LossConfig, OptimConfig, TrainConfig
from edgeai.spec.data.answers import write_conversations
from edgeai.spec.target.loading import load_target
from edgeai.spec.target.torch_runtime import DecoderTarget
from edgeai.spec.tiny import write_tiny_model


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `python -m edgeai.spec.tiny` writes."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    write_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_target(tiny_folder: Path) -> DecoderTarget:
    """The tiny model, loaded as any other."""
    return load_target(TargetConfig(model=str(tiny_folder), dtype="float32"), device="cpu", metrics=Metrics(None))


@pytest.fixture(scope="session")
def tiny_prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty prompts, one a line."""
    file = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    file.write_text("".join(f"Tell me about number {n} and {n * n % 17}.\n" for n in range(40)))
    return file


@pytest.fixture(scope="session")
def tiny_answers(tmp_path_factory: pytest.TempPathFactory, tiny_target: DecoderTarget, tiny_prompts: Path) -> Path:
    """The tiny model's answers to them, at temperatures 0 and 1 in turn."""
    file = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    config = DataConfig(prompts=(str(tiny_prompts),), max_answer_tokens=40, max_len=128)
    write_conversations(tiny_target, config, path=file, seed=0, metrics=Metrics(None))
    return file


@pytest.fixture(scope="session")
def train_config(tiny_folder: Path, tiny_answers: Path) -> Callable[..., TrainConfig]:
    """train_config(data={}, loss={}, optim={}, head={}, **others): changes to the usual config."""

    def make(**changes: Any) -> TrainConfig:
        parts = {
            "data": (DataConfig, {"answers": tiny_answers, "val_frac": 0.2}),
            "head": (HeadConfig, {"draft_vocab": 96}),
            "loss": (LossConfig, {"ttt_steps": 3}),
            "optim": (OptimConfig, {"lr": 5e-3, "batch_tokens": 512, "autocast": False}),
        }
        built = {name: schema(**{**usual, **changes.pop(name, {})}) for name, (schema, usual) in parts.items()}
        target = TargetConfig(model=str(tiny_folder), dtype="float32")
        return TrainConfig(target=target, **built, **{"epochs": 2, "val_every": 4, **changes})

    return make


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """make_run(cfg, name="run", listener=None): a run directory below tmp_path."""

    def make(cfg: TrainConfig, name: str = "run", listener: Any = None) -> Run:
        return Run.create(cfg, out=tmp_path / name, argv=[], device="cpu", device_why="test", listener=listener)

    return make
