"""User-defined models, and every error in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.fedsplit.config.models import CustomConfig
from edgeai.fedsplit.models.build import build_model

SOURCE = """
import math
from collections import OrderedDict
from torch import nn

def build(sample_shape, num_classes, width=3):
    flat = math.prod(sample_shape)
    return nn.Sequential(OrderedDict(body=nn.Sequential(nn.Flatten(), nn.Linear(flat, width)),
                                     out=nn.Linear(width, num_classes)))

def tokens(sample_shape, num_classes):
    return nn.Sequential(nn.Embedding(5, 2), nn.Flatten(), nn.Linear(2 * sample_shape[0], num_classes))

def layer(sample_shape, num_classes):
    return nn.Linear(3, num_classes)

def narrow(sample_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 2))

def misfit(sample_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(5, num_classes))

def fails(sample_shape, num_classes):
    return nn.Sequential(no_such_name)
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(SOURCE)
    return path


def test_function_in_a_file(net: Path) -> None:
    model = build_model(CustomConfig(path=f"{net}:build", options={"width": 7}), (1, 2, 2), 3)
    assert [name for name, _ in model.named_children()] == ["body", "out"]
    assert model[1].in_features == 7
    assert model.training
    assert build_model(CustomConfig(path=f"{net}:tokens"), (4,), 3)(torch.ones(1, 4, dtype=torch.int64)).shape == (1, 3)


def test_function_in_a_package(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(net.parent))
    net.rename(net.with_name("edgeai_test_net.py"))
    assert len(build_model(CustomConfig(path="edgeai_test_net:build"), (4,), 3)) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("biuld", 'model.path: no function "biuld" in {net}'),
        ("layer", "model.path: {net}:layer returned Linear, not torch.nn.Sequential"),
        ("narrow", "model.path: {net}:narrow returns [2, 2] for 2 samples, expected [2, 3]"),
        ("misfit", "model.path: {net}:misfit does not run on samples of shape [1, 2, 2]: mat1 and mat2 shapes cannot be"
         " multiplied (2x4 and 5x3)"),
    ],
)  # fmt: skip
def test_what_is_no_model(net: Path, name: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_model(CustomConfig(path=f"{net}:{name}"), (1, 2, 2), 3)
    assert caught.value.message == text.format(net=net)
    if name == "biuld":
        assert caught.value.hint.startswith('did you mean "build"?')


def test_code_that_fails_is_named_by_its_line(net: Path) -> None:
    with pytest.raises(EdgeAIError) as caught:
        build_model(CustomConfig(path=f"{net}:fails"), (1, 2, 2), 3)
    line = SOURCE.splitlines().index("    return nn.Sequential(no_such_name)") + 1
    reason = "NameError: name 'no_such_name' is not defined"
    assert caught.value.message == f"model.path: {net}:fails failed: net.py:{line}: {reason}"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("net.py", 'model.path: "net.py" does not name a function'),
        ("missing.py:build", "model.path: no file missing.py"),
        ("no_such_package.nets:build", "model.path: cannot import no_such_package.nets: No module named"
         " 'no_such_package'"),
    ],
)  # fmt: skip
def test_paths_that_lead_nowhere(path: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_model(CustomConfig(path=path), (4,), 3)
    assert caught.value.message == text
