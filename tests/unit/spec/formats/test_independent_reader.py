"""The check of exports detects every known silent incompatibility."""

import pytest
import torch
from safetensors.torch import load_file

from edgeai.spec.draft.checkpoint import load_head
from edgeai.spec.draft.rope import Rope
from edgeai.spec.formats.agreement import check_agreement, head_logits, states_entering
from edgeai.spec.formats.independent_reader import IndependentReader, _angles

IDS = "eagle_aux_hidden_state_layer_ids"
ODD = {"aux_layers": (1, 3, 6)}


def _judge(folder, format, tmp_path, target):
    head, _ = load_head(tmp_path / "own", target)
    return check_agreement(IndependentReader(folder, format, target.shape.num_layers), head, target, Rope(10000.0))


def _swap(tensors, one, other):
    tensors[one], tensors[other] = tensors[other], tensors[one]


@pytest.mark.parametrize(
    ("format", "made", "config", "tensors"),
    [
        ("sglang", ODD, lambda c: c["eagle_config"].update({IDS: [1, 3, 6]}), None),
        ("sglang", ODD, lambda c: c.pop("eagle_config"), None),
        ("vllm", ODD, lambda c: c.update({IDS: [0, 2, 5]}), None),
        ("sglang", {}, lambda c: c.update(norm_output=False), None),
        ("sglang", {}, lambda c: c.update(rope_theta=500.0), None),
        ("sglang", {}, lambda c: c.update(rope_scaling={"rope_type": "linear", "factor": 2.0}), None),
        ("sglang", {}, lambda c: c.update(rms_norm_eps=0.1), None),
        ("vllm", {}, lambda c: c.update(norm_before_residual=True), None),
        ("vllm", {"norm_before_residual": True}, lambda c: c.pop("norm_before_residual"), None),
        ("speculators", {}, lambda c: c.pop("norm_before_residual"), None),
        ("vllm", {}, None, lambda t: t.update(d2t=t["d2t"] * 0)),
        ("vllm", {}, None, lambda t: _swap(t, "midlayer.mlp.gate_proj.weight", "midlayer.mlp.up_proj.weight")),
        ("vllm", {}, None, lambda t: _swap(t, "fc_norm.0.weight", "fc_norm.2.weight")),
        ("vllm", {}, None, lambda t: _swap(t, "midlayer.hidden_norm.weight", "midlayer.input_layernorm.weight")),
        ("vllm", {}, None, lambda t: t["norm.weight"].mul_(float("nan"))),
    ],
    ids=[
        "ids one too high",
        "ids forgotten",
        "ids one too low",
        "fed back without norm",
        "base",
        "scaling",
        "eps",
        "residual",
        "residual forgotten",
        "residual, true where absent",
        "ids instead of offsets",
        "gate and up",
        "norms of the features",
        "norms of the streams",
        "no number",
    ],
)
def test_silent_incompatibilities_are_detected(exported, edit, tiny_target, tmp_path, format, made, config, tensors):
    folder = exported(format, **made).path
    assert _judge(folder, format, tmp_path, tiny_target).is_ok
    edit(folder, config, tensors)
    found = _judge(folder, format, tmp_path, tiny_target)
    assert found.problems == ()
    assert not found.is_ok
    assert not found.max_difference < 5 * found.tolerance


@pytest.mark.parametrize(
    ("tensors", "problems"),
    [
        (lambda t: t.pop("fc.weight"), ("no fc.weight",)),
        (lambda t: t.update(extra=torch.zeros(1)), ("unknown extra",)),
        (lambda t: t.update({"norm.weight": torch.ones(32)}), ("norm.weight is [32], not [64]",)),
        (lambda t: t.update(d2t=t["d2t"].int()), ("d2t is torch.int32",)),
        (lambda t: t.update(t2d=t["t2d"].int()), ("t2d is torch.int32",)),
        (
            lambda t: t.update({"layers.0.hidden_norm.weight": t.pop("midlayer.hidden_norm.weight")}),
            ("no midlayer.hidden_norm.weight", "unknown layers.0.hidden_norm.weight"),
        ),
    ],
    ids=["missing", "unknown", "shape", "d2t", "t2d", "name"],
)
def test_names_shapes_and_formats(exported, edit, tiny_target, tmp_path, tensors, problems):
    folder = exported("sglang").path
    edit(folder, tensors=tensors)
    found = _judge(folder, "sglang", tmp_path, tiny_target)
    assert (found.problems, found.is_ok) == (problems, False)


def test_a_layer_beyond_the_target(exported, edit, tiny_target, tmp_path):
    folder = exported("sglang", aux_layers=(1, 3, 7)).path
    edit(folder, config=lambda c: c["eagle_config"].update({IDS: [1, 3, 7]}))  # entering ids instead of output ids
    assert _judge(folder, "sglang", tmp_path, tiny_target).problems == ("no layer 8",)


def test_states_enter_the_layers(tiny_target, tiny_folder):
    """Against transformers, whose hidden_states[i] enters layer i."""
    from transformers import AutoModelForCausalLM

    ids = torch.arange(40, 60)
    with torch.inference_mode():
        model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
        theirs = model(ids[None], output_hidden_states=True).hidden_states
    before = tiny_target.aux_layers
    ours = states_entering(tiny_target, ids)
    assert tiny_target.aux_layers == before
    assert ours.shape == (8, 20, 64)
    for layer in range(8):
        torch.testing.assert_close(ours[layer], theirs[layer][0], rtol=1e-4, atol=1e-4)  # float32, other kernels


def test_only_the_draft_vocabulary_has_finite_logits(exported, tiny_target, tmp_path):
    report = exported("vllm")
    head, _ = load_head(tmp_path / "own", tiny_target)
    ids = torch.arange(40, 60)
    states, embedding = states_entering(tiny_target, ids), tiny_target.embedding
    ours = head_logits(head, Rope(10000.0), ids, states, embedding, 7)
    theirs = IndependentReader(report.path, "vllm", 8).logits(ids, states[:, :-1], embedding, 7)
    kept = load_file(report.path / "model.safetensors")["t2d"]
    for logits in (ours, theirs):
        assert logits.shape == (2, 258)
        assert torch.equal(logits.isfinite(), kept.expand(2, -1))
    assert not torch.allclose(ours[0][kept], ours[1][kept], atol=1e-2)


@pytest.mark.parametrize(
    "rope", [Rope(10000.0), Rope(10000.0, "linear", 4.0), Rope(500000.0, "llama3", 8.0, 1.0, 4.0, 8192)], ids=str
)
def test_angles_against_the_tables(rope):
    """The angles of two independent implementations agree."""
    angles = torch.tensor(_angles(rope.to_config(), 128, 50))
    cos, _ = rope.tables(128, 50, torch.float32)
    torch.testing.assert_close(angles.cos(), cos[:, :64], rtol=0, atol=1e-4)  # angles up to 50 in float32
