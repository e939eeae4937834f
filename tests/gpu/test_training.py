"""Training a head on a device, and on two devices, against one CPU process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgeai import spec
from edgeai.core.metrics import read_metrics

NUM_STEPS = 4
LOSS_BOUND = 1e-3
"""Relative difference of a step's loss: float32 on both sides, a few optimizer steps."""


@pytest.fixture(scope="module")
def settings(model, tmp_path_factory):
    """A training of four steps on given answers, in float32."""
    prompts = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    prompts.write_text("".join(f"Tell me about number {n} and {n * n % 17}.\n" for n in range(40)))
    common = {"target.model": model, "data.self_prompt": 0, "data.prompts": [prompts], "optim.autocast": False}
    folder = tmp_path_factory.mktemp("answers") / "run"
    spec.train("spec/smoke", overrides={**common, "max_steps": 1}, out=folder, device="cpu")
    return {**common, "data.answers": folder / "answers.jsonl", "max_steps": NUM_STEPS}


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(folder) if "loss" in row]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_losses_equal_those_on_the_cpu(optimizer, device, settings, tmp_path):
    overrides = {**settings, "optim.kind": optimizer}
    report = spec.train("spec/smoke", overrides=overrides, out=tmp_path / "device", device=device)
    spec.train("spec/smoke", overrides=overrides, out=tmp_path / "cpu", device="cpu")
    assert report.num_steps == NUM_STEPS
    assert losses(tmp_path / "device") == pytest.approx(losses(tmp_path / "cpu"), rel=LOSS_BOUND)


def test_gto_step(device, settings, tmp_path):
    overrides = {**settings, "phase": "both", "gto.groups": 2, "gto.group_size": 4, "gto.tree.nodes": 6, "max_steps": 2}
    report = spec.train("spec/smoke", overrides=overrides, out=tmp_path / "run", device=device)
    assert report.num_steps == 4  # two of each phase


def test_resumed_training_equals_an_uninterrupted_one(device, settings, tmp_path):
    whole = spec.train("spec/smoke", overrides=settings, out=tmp_path / "whole", device=device)

    def stop(event):
        if event.task == "train" and event.done == 2:
            raise KeyboardInterrupt

    overrides = {**settings, "val_every": 1}
    with pytest.raises(KeyboardInterrupt):
        spec.train("spec/smoke", overrides=overrides, out=tmp_path / "parts", device=device, on_progress=stop)
    resumed = spec.train(out=tmp_path / "parts", resume=True, device=device)
    assert resumed.num_steps == whole.num_steps
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=LOSS_BOUND)


def train_on_two(settings, device, out):
    """Runs the command line under torchrun with two processes."""
    overrides = [f"--set={key}={value}" for key, value in settings.items() if key != "data.prompts"]
    overrides += [f"--set=data.prompts=[{settings['data.prompts'][0]}]", "--set=optim.grad_accum=2"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "edgeai"]
    command += ["spec", "train", "-c", "spec/smoke", *overrides, f"--device={device}", f"--out={out}", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "device", [pytest.param("cuda", marks=pytest.mark.gpu), pytest.param("cpu", marks=pytest.mark.slow)]
)
def test_two_processes_train_as_one(device, settings, tmp_path):
    """NCCL on two GPUs, gloo on the CPU: the same losses as one process with the same global batch."""
    if device == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip(f"needs two CUDA devices: torch sees {torch.cuda.device_count()}")
    train_on_two(settings, device, tmp_path / "two")
    spec.train("spec/smoke", overrides={**settings, "optim.grad_accum": 2}, out=tmp_path / "one", device="cpu")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=LOSS_BOUND)
