"""Heads on disk: what is written reads back, and whatever does not fit is refused with both sides named."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.spec.draft import head_files
from edgeai.spec.draft.checkpoint import load_head, save_head
from edgeai.spec.draft.head import draft_vocabulary
from edgeai.spec.draft.head_files import SHIPPED, find_head

SWITCHES = [
    {"fc_norm": True, "norm_output": True, "norm_before_residual": True},
    {"fc_norm": False, "norm_output": False, "norm_before_residual": False},
]


@pytest.fixture
def saved(target, make_head, tmp_path):
    """A head as it is after a run."""
    head = make_head(target)
    save_head(tmp_path / "best", head, target, {"val_acc_0": 0.5})
    return head, tmp_path / "best"


def _edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    (folder / "config.json").write_text(json.dumps(config))


def _edit_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def _refusal(folder, target):
    with pytest.raises(UsageError) as caught:
        load_head(folder, target)
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("switches", SWITCHES, ids=["all on", "all off"])
def test_round_trip(target, make_head, tmp_path, switches):
    head = make_head(target, **switches)
    save_head(tmp_path / "h", head, target, {"val_acc_0": 0.5})
    found, info = load_head(tmp_path / "h", target)
    assert found.shape == head.shape
    assert (info.target, info.fingerprint, info.metrics) == ("tiny", "tiny", {"val_acc_0": 0.5})
    expected = head.state_dict()
    assert list(found.state_dict()) == list(expected)
    for name, tensor in found.state_dict().items():
        kept = expected[name].bfloat16().float() if tensor.is_floating_point() else expected[name]
        assert torch.equal(tensor, kept), name
    assert not list(tmp_path.glob("*.partial"))


def test_files_are_those_of_eagle3(saved, target):
    """Names, shapes and formats as published heads have them: H 64, MLP 96, 4 heads on 2 of width 16, 128 tokens."""
    tensors = load_file(saved[1] / "model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "fc.weight": (64, 192),
        "fc_norm.0.weight": (64,),
        "fc_norm.1.weight": (64,),
        "fc_norm.2.weight": (64,),
        "midlayer.hidden_norm.weight": (64,),
        "midlayer.input_layernorm.weight": (64,),
        "midlayer.post_attention_layernorm.weight": (64,),
        "midlayer.self_attn.q_proj.weight": (64, 128),
        "midlayer.self_attn.k_proj.weight": (32, 128),
        "midlayer.self_attn.v_proj.weight": (32, 128),
        "midlayer.self_attn.o_proj.weight": (64, 64),
        "midlayer.mlp.gate_proj.weight": (96, 64),
        "midlayer.mlp.up_proj.weight": (96, 64),
        "midlayer.mlp.down_proj.weight": (64, 96),
        "norm.weight": (64,),
        "lm_head.weight": (64, 64),
        "d2t": (64,),
        "t2d": (128,),
    }
    assert {name: t.dtype for name, t in tensors.items() if not name.endswith("weight")} == {
        "d2t": torch.int64,
        "t2d": torch.bool,
    }
    assert {t.dtype for name, t in tensors.items() if name.endswith("weight")} == {torch.bfloat16}
    kept = torch.arange(64) + tensors["d2t"]
    assert kept.tolist() == tensors["t2d"].nonzero()[:, 0].tolist()
    config = json.loads((saved[1] / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLMEagle3"]
    assert config["tie_word_embeddings"] is False
    assert config["eagle_aux_hidden_state_layer_ids"] == [1, 2, 3]
    assert (config["vocab_size"], config["draft_vocab_size"], config["num_hidden_layers"]) == (128, 64, 1)


def test_head_is_found_below_a_run(saved, tmp_path, target, make_head):
    assert find_head(tmp_path) == tmp_path / "best"
    assert find_head(tmp_path / "best") == tmp_path / "best"
    save_head(tmp_path / "other" / "last", make_head(target), target, {})
    assert find_head(tmp_path / "other") == tmp_path / "other" / "last"


def test_no_head_there(target, tmp_path):
    assert _refusal(tmp_path / "none", target) == f"no draft head in {tmp_path / 'none'}"
    (tmp_path / "config.json").write_text("{}")
    assert _refusal(tmp_path, target) == f"no draft head in {tmp_path}"


def test_another_vocabulary(saved, make_hf, make_target):
    other = make_target(make_hf(vocab_size=96))
    other.name = "other"
    assert _refusal(saved[1], other) == f"{saved[1]} drafts for tiny with 128 tokens, but other has 96"


def test_another_width(saved, target):
    _edit_config(saved[1], target_hidden_size=80)
    assert _refusal(saved[1], target) == f"{saved[1]} drafts for tiny of width 80, but tiny has width 64"


def test_another_depth(saved, target):
    _edit_config(saved[1], eagle_aux_hidden_state_layer_ids=[1, 2, 4])
    assert _refusal(saved[1], target) == f"{saved[1]} drafts for tiny from layer 4, but tiny has 4 layers"


def test_another_target_of_the_same_shape(saved, make_hf, make_target):
    other = make_target(make_hf(seed=1))
    other.name, other.fingerprint = "other", "cafe"
    assert _refusal(saved[1], other) == (
        f"{saved[1]} was trained for tiny (weights tiny), not for other (weights cafe)"
    )


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff\xfe", b"[1, 2]"])
def test_garbage(saved, target, name, content):
    (saved[1] / name).write_bytes(content)
    assert _refusal(saved[1], target).startswith(f"{saved[1]} does not contain a readable draft head: ")


def test_a_field_is_missing(saved, target):
    config = json.loads((saved[1] / "config.json").read_text())
    del config["draft_vocab_size"]
    (saved[1] / "config.json").write_text(json.dumps(config))
    assert _refusal(saved[1], target) == f"{saved[1]} does not contain a readable draft head: 'draft_vocab_size'"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t.pop("fc.weight"), "no fc.weight"),
        (lambda t: t.update({"extra.weight": torch.zeros(1)}), "unknown extra.weight"),
        (lambda t: t.update({"norm.weight": torch.ones(32)}), "norm.weight is [32], not [64]"),
        (lambda t: t.update(d2t=torch.full((64,), 100)), "d2t leaves the 128 tokens of the target"),
        (lambda t: t.update(d2t=torch.full((64,), -1)), "d2t leaves the 128 tokens of the target"),
    ],
    ids=["missing", "unknown", "shape", "beyond", "negative"],
)
def test_tensors_that_do_not_match(saved, target, change, problem):
    _edit_tensors(saved[1], change)
    assert _refusal(saved[1], target) == f"{saved[1]}: tensors do not match the head's config: {problem}"


def test_checking_imports_no_compiler(saved):
    """torch's compiler takes a second to import, before the first token."""
    script = (
        "import sys; from pathlib import Path; from edgeai.spec.draft.head import DraftHead, HeadShape\n"
        "from edgeai.spec.draft.head_checks import check_tensors\n"
        f"shape = {saved[0].shape!r}\n"
        "check_tensors(Path(), DraftHead(shape).state_dict(), shape)\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_t2d_follows_from_d2t(saved, target):
    """A file without t2d, or with a wrong one, gives the same head."""
    _edit_tensors(saved[1], lambda t: t.update(t2d=~t["t2d"]))
    assert torch.equal(load_head(saved[1], target)[0].t2d, saved[0].t2d)
    _edit_tensors(saved[1], lambda t: t.pop("t2d"))
    assert torch.equal(load_head(saved[1], target)[0].t2d, saved[0].t2d)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error")], ids=repr)
def test_disk_full_keeps_the_head_before(saved, target, make_head, monkeypatch, error):
    head, folder = saved

    def full(tensors, path, _):
        path.write_bytes(b"half")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(head_files, "save_file", full)
        with pytest.raises(EdgeAIError) as caught:
            save_head(folder, make_head(target, seed=1), target, {})
    assert caught.value.message == f"cannot write {folder}: {error}"
    assert caught.value.hint == "free some space, then continue with --resume"
    assert torch.equal(load_head(folder, target)[0].fc.weight, head.fc.weight.bfloat16().float())
    later = make_head(target, seed=1)
    save_head(folder, later, target, {})
    assert torch.equal(load_head(folder, target)[0].fc.weight, later.fc.weight.bfloat16().float())


def test_draft_vocabulary_by_hand():
    """Three most frequent: ids 1, 3, 2, sorted 1 2 3 = (0 1 2) + 1. Five: of the unseen ones the lowest fills up."""
    counts = torch.tensor([0, 5, 2, 5, 0, 1])
    assert draft_vocabulary(counts, 3).tolist() == [1, 1, 1]
    assert draft_vocabulary(counts, 2).tolist() == [1, 2]
    assert draft_vocabulary(counts, 5).tolist() == [0, 0, 0, 0, 1]
    assert draft_vocabulary(counts, 6).tolist() == [0] * 6


def test_draft_vocabulary_fills_up_in_order():
    """Of 100,000 tokens one was seen."""
    counts = torch.zeros(100_000, dtype=torch.long)
    counts[70_000] = 1
    offsets = draft_vocabulary(counts, 5000)
    assert not offsets[:4999].any()
    assert offsets[4999] == 70_000 - 4999


def test_a_shipped_head_goes_by_its_name(tmp_path, monkeypatch):
    """Unless a folder of that name is there."""
    monkeypatch.chdir(tmp_path)
    shipped = find_head(Path("smollm2-135m-instruct"))
    assert shipped == SHIPPED / "smollm2-135m-instruct"
    shutil.copytree(shipped, "smollm2-135m-instruct")
    assert find_head(Path("smollm2-135m-instruct")) == Path("smollm2-135m-instruct")
