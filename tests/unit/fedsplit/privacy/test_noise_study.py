import json

import numpy as np
import pytest
import torch

from edgeai.core.errors import UsageError
from edgeai.core.files import json_text
from edgeai.fedsplit.config.privacy import PrivacyRow, PrivacyStudyConfig
from edgeai.fedsplit.privacy import noise_study as privacy_study
from edgeai.fedsplit.privacy.noise_study import as_document, as_table, study
from edgeai.fedsplit.privacy.noise_study_published import PUBLISHED, build_client_part, build_deconv, build_server_part


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    """A study of a few random pictures, with MNIST's borders moved together."""
    monkeypatch.setattr(privacy_study, "_NUM_TRAIN", 128)
    monkeypatch.setattr(privacy_study, "_NUM_ATTACK", 128)
    generator = np.random.default_rng(0)
    arrays = {}
    for split, num in (("train", 384), ("test", 128)):
        arrays[f"y_{split}"] = generator.integers(0, 10, num).astype(np.uint8)
        arrays[f"x_{split}"] = generator.integers(0, 256, (num, 28, 28)).astype(np.uint8)
    np.savez(tmp_path / "mnist.npz", **arrays)
    sizes = dict.fromkeys(("num_train", "num_attack", "num_attacked", "num_val"), 32)
    rows = (PrivacyRow(noise=0.5, lam=0.1), PrivacyRow(noise=0.0, lam=0.5))
    return PrivacyStudyConfig(data=str(tmp_path / "mnist.npz"), rows=rows, num_epochs=1, num_attack_epochs=1, **sizes)


def test_rows_are_told_as_they_come_and_shown_in_order(cfg):
    told = []
    table = study(cfg, told.append)
    assert [len(part.rows) for part in told] == [1, 2]
    assert [(row.noise, row.lam) for row in table.rows] == [(0.0, 0.5), (0.5, 0.1)]
    clean, noisy = table.rows
    assert clean.wire_affine == clean.affine  # without noise the same crosses
    assert noisy.wire_affine.mse > noisy.affine.mse
    assert noisy.deconv.mse > 0.0
    assert noisy.published == PUBLISHED[(0.5, 0.1)]
    lines = as_table(table).splitlines()
    assert len(lines) == 4
    assert lines[3].startswith(f"| 0.5 | 0.1 | {100 * noisy.val_acc:.2f} / 97.52 | {noisy.dcor:.3f} / 0.525 |")
    assert lines[2].split(" | ")[2].endswith(" / -")
    assert json.loads(json_text(as_document(table)))["rows"][1]["published"]["attack_acc"] == 0.9328


def test_the_nets_are_the_published_ones():
    client, server, deconv = build_client_part(), build_server_part(), build_deconv()
    x = torch.zeros(2, 1, 28, 28)
    assert client(x).shape == (2, 500)
    # 32 (9 + 1), 64 (32 * 9 + 1), 500 (9216 + 1)
    assert sum(weight.numel() for weight in client.parameters()) == 320 + 18_496 + 4_608_500
    assert server(client(x)).sum(1).tolist() == pytest.approx([1.0, 1.0])
    one, other = torch.randn(2, 3, 500, generator=torch.Generator().manual_seed(0))
    assert deconv(one).shape == (3, 1, 28, 28)
    middle = deconv((one + other) / 2)
    torch.testing.assert_close(middle, (deconv(one) + deconv(other)) / 2, rtol=0, atol=1e-5)  # affine


def test_the_default_grid_holds_every_published_row():
    grid = {(row.noise, row.lam) for row in PrivacyStudyConfig().rows}
    assert grid == {*PUBLISHED, (0.0, 0.0)}


def test_other_data_are_refused(cfg, tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, x_train=np.zeros((400, 8, 8)), y_train=np.zeros(400), x_test=np.zeros(1), y_test=np.zeros(1))
    with pytest.raises(UsageError) as caught:
        study(cfg.model_copy(update={"data": str(path)}))
    assert caught.value.message == f"{path}: expected MNIST with x_train [60000, 28, 28], y_train, x_test and y_test"
