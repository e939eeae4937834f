"""The published noise study on a few random images; its nets and its table."""

import importlib.util
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeai.core.errors import UsageError


@pytest.fixture(scope="module")
def noise():
    """The benchmark script as a module."""
    spec = importlib.util.spec_from_file_location("privacy_noise", Path(__file__).parent / "fedsplit_privacy_noise.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["privacy_noise"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["privacy_noise"]


@pytest.fixture
def settings(noise, tmp_path, monkeypatch):
    """A study of a few random images, with MNIST's parts moved together."""
    monkeypatch.setattr(noise, "NUM_TRAIN", 128)
    monkeypatch.setattr(noise, "NUM_ATTACK", 128)
    generator = np.random.default_rng(0)
    arrays = {}
    for split, num in (("train", 384), ("test", 128)):
        arrays[f"y_{split}"] = generator.integers(0, 10, num).astype(np.uint8)
        arrays[f"x_{split}"] = generator.integers(0, 256, (num, 28, 28)).astype(np.uint8)
    np.savez(tmp_path / "mnist.npz", **arrays)
    sizes = dict.fromkeys(("num_train", "num_attack", "num_attacked", "num_val"), 32)
    return noise.Settings(data=str(tmp_path / "mnist.npz"), num_epochs=1, num_attack_epochs=1, **sizes)


def test_rows_are_told_as_they_come_and_shown_in_order(noise, settings):
    told = []
    table = noise.study(settings, [(0.5, 0.1), (0.0, 0.5)], told.append)
    assert [len(part.rows) for part in told] == [1, 2]
    assert [(row.noise, row.lam) for row in table.rows] == [(0.0, 0.5), (0.5, 0.1)]
    clean, noisy = table.rows
    assert clean.wire_affine == clean.affine  # without noise the same crosses
    assert noisy.wire_affine.mse > noisy.affine.mse
    assert noisy.deconv.mse > 0.0
    assert noisy.published == noise.PUBLISHED[(0.5, 0.1)]
    lines = table.to_markdown().splitlines()
    assert len(lines) == 4
    assert lines[3].startswith(f"| 0.5 | 0.1 | {100 * noisy.val_acc:.2f} / 97.52 | {noisy.dcor:.3f} / 0.525 |")
    assert lines[2].split(" | ")[2].endswith(" / -")
    assert asdict(table)["rows"][1]["published"]["attack_acc"] == 0.9328


def test_the_nets_are_the_published_ones(noise):
    client, server, deconv = noise.build_client_part(), noise.build_server_part(), noise.build_deconv()
    x = torch.zeros(2, 1, 28, 28)
    assert client(x).shape == (2, 500)
    # 32 (9 + 1), 64 (32 * 9 + 1), 500 (9216 + 1)
    assert sum(weight.numel() for weight in client.parameters()) == 320 + 18_496 + 4_608_500
    assert server(client(x)).sum(1).tolist() == pytest.approx([1.0, 1.0])
    one, other = torch.randn(2, 3, 500, generator=torch.Generator().manual_seed(0))
    assert deconv(one).shape == (3, 1, 28, 28)
    middle = deconv((one + other) / 2)
    torch.testing.assert_close(middle, (deconv(one) + deconv(other)) / 2, rtol=0, atol=1e-5)  # affine


def test_other_data_are_refused(noise, settings, tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, x_train=np.zeros((400, 8, 8)), y_train=np.zeros(400), x_test=np.zeros(1), y_test=np.zeros(1))
    with pytest.raises(UsageError) as caught:
        noise.study(replace(settings, data=str(path)), [(0.5, 0.1)])
    assert caught.value.message == f"{path}: expected MNIST with x_train [60000, 28, 28], y_train, x_test and y_test"
