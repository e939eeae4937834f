"""Checkpoints survive a full disk and a kill, bad losses stop a training, the learning rate follows its formula."""

import math

import pytest
import torch
from safetensors import SafetensorError

from edgeai.core.checkpoint import check_finite, load_state, replacing_files, save_state, warmup_cosine
from edgeai.core.errors import EdgeAIError

STATE = {"step": 3, "weights": torch.arange(4.0), "rows": [{"loss": None}]}


def test_a_saved_state_reads_back(tmp_path):
    assert load_state(tmp_path) is None
    save_state(tmp_path, STATE)
    found = load_state(tmp_path)
    assert found is not None
    assert found["step"] == 3
    assert torch.equal(found["weights"], STATE["weights"])
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 64")], ids=repr)
def test_a_full_disk_keeps_the_state_before(tmp_path, monkeypatch, error):
    def full(state, path):
        path.write_bytes(b"half a state")
        raise error

    save_state(tmp_path, STATE)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(EdgeAIError) as caught:
            save_state(tmp_path, {"step": 4})
    assert caught.value.message == f"cannot write {tmp_path}/state.pt: {error}"
    assert caught.value.hint == "free some space, then continue with --resume"
    assert load_state(tmp_path)["step"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_an_interrupted_write_keeps_the_state_before(tmp_path, monkeypatch):
    def torn(state, path):
        path.write_bytes(b"half a state")
        raise KeyboardInterrupt

    save_state(tmp_path, STATE)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", torn)
        with pytest.raises(KeyboardInterrupt):
            save_state(tmp_path, {"step": 4})
    assert load_state(tmp_path)["step"] == 3


def test_files_are_replaced_together(tmp_path):
    folder = tmp_path / "run" / "best"
    for text in ("old", "new"):
        with replacing_files(folder, ("a", "b")) as partial:
            (partial / "a").write_text(text)
            (partial / "b").write_text(text)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "new", "b": "new"}
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error")], ids=repr)
def test_a_full_disk_keeps_the_files_before(tmp_path, error):
    folder = tmp_path / "best"
    folder.mkdir()
    (folder / "a").write_text("old")

    def write():
        with replacing_files(folder, ("a",)) as partial:
            (partial / "a").write_text("half")
            raise error

    with pytest.raises(EdgeAIError) as caught:
        write()
    assert caught.value.message == f"cannot write {folder}: {error}"
    assert (folder / "a").read_text() == "old"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_value_stops_the_training(tmp_path, value):
    last = tmp_path / "last"
    check_finite([0.0, -1.0], step=7, last=last, lr_key="optim.lr", lr=0.5)
    with pytest.raises(EdgeAIError) as caught:
        check_finite([1.0, value], step=7, last=last, lr_key="optim.lr", lr=0.5)
    assert caught.value.message == "the loss is not finite at step 7"
    assert caught.value.hint == "train again with a lower optim.lr (now 0.5)"
    last.mkdir()
    with pytest.raises(EdgeAIError) as caught:
        check_finite([value], step=7, last=last, lr_key="gto.lr", lr=0.5)
    assert caught.value.hint == f"the last good weights are in {last}; train again with a lower gto.lr (now 0.5)"


def test_the_learning_rate_warms_up_and_decays():
    """10 of 100 steps warm up; half way down the cosine is 0."""
    rates = [warmup_cosine(step, 100, lr=1.0, warmup_frac=0.1) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)
    floor = [warmup_cosine(step, 100, lr=2.0, warmup_frac=0.1, min_lr_frac=0.1) for step in range(101)]
    assert floor[55] == pytest.approx(2.0 * 0.55)
    assert floor[100] == pytest.approx(0.2)
    assert all(math.isfinite(warmup_cosine(0, num, lr=1.0, warmup_frac=0.0)) for num in (1, 2))
