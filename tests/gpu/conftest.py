"""Tests that need a GPU, and the same code on the CPU.

`pytest -m gpu tests/gpu` runs them on a GPU; without one they are skipped. Each test that needs a single device also
has a CPU variant, marked slow, so that its code runs where there is no GPU.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgeai import spec
from edgeai.spec.tiny import write_tiny_model

NO_GPU = f"needs a CUDA device: torch {torch.__version__} sees none"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip(NO_GPU)


@pytest.fixture(params=[pytest.param("cuda", marks=pytest.mark.gpu), pytest.param("cpu", marks=pytest.mark.slow)])
def device(request: pytest.FixtureRequest) -> str:
    """The device under test, as `--device` takes it."""
    return str(request.param)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny random model as a folder."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    write_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def reference(model: Path) -> spec.Target:
    """The tiny model on the CPU in float32, with which a device is compared."""
    return spec.load_target(model, dtype="float32", device="cpu")
