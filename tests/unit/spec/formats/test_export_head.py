"""Exports against the tensor tables of the formats, repeated here; export and import return the same bits."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from edgeai.core.config import dump_config
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.export import ExportConfig, ImportConfig
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.config.train import TrainConfig
from edgeai.spec.draft.checkpoint import load_head, save_head
from edgeai.spec.draft.eagle3 import Eagle3
from edgeai.spec.draft.head_files import SHIPPED
from edgeai.spec.formats import export_head as export
from edgeai.spec.formats.export_head import export_head, plan_export, target_of
from edgeai.spec.formats.import_head import import_head
from edgeai.spec.formats.layout import LAYOUTS, file_tensors

FORMATS = ("sglang", "vllm", "speculators", "eagle")
PLAIN = {"fc_norm": False, "norm_output": False}
ODD = {"aux_layers": (1, 3, 7)}

# H 64, target width 64, 4 query heads and 2 key heads of width 16, MLP 128, 258 tokens of which 64 are drafted
TABLE = {
    "fc.weight": (64, 192),
    "norm.weight": (64,),
    "lm_head.weight": (64, 64),
    "d2t": (64,),
    "t2d": (258,),
}
LAYER_TABLE = {
    "hidden_norm.weight": (64,),
    "input_layernorm.weight": (64,),
    "post_attention_layernorm.weight": (64,),
    "self_attn.q_proj.weight": (64, 128),
    "self_attn.k_proj.weight": (32, 128),
    "self_attn.v_proj.weight": (32, 128),
    "self_attn.o_proj.weight": (64, 64),
    "mlp.gate_proj.weight": (128, 64),
    "mlp.up_proj.weight": (128, 64),
    "mlp.down_proj.weight": (64, 128),
}
NORMS_TABLE = {"fc_norm.0.weight": (64,), "fc_norm.1.weight": (64,), "fc_norm.2.weight": (64,)}
LAYER = {"sglang": "midlayer.", "vllm": "midlayer.", "speculators": "layers.0.", "eagle": "midlayer."}

LAYER_CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_hidden_layers": 1,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "max_position_embeddings": 512,
    "vocab_size": 258,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
    "torch_dtype": "bfloat16",
}
PLAIN_CONFIG = {"architectures": ["LlamaForCausalLMEagle3"], **LAYER_CONFIG, "draft_vocab_size": 64}


def _config(report):
    return json.loads((report.path / "config.json").read_text())


@pytest.mark.parametrize(
    ("format", "norms"), [*((format, False) for format in FORMATS), *((format, True) for format in FORMATS[:3])]
)
def test_tensors_are_those_of_the_table(exported, format, norms):
    """With and without the norms of EAGLE-3.1, which the EAGLE code does not support."""
    report = exported(format, fc_norm=norms, norm_output=norms)
    expected = {**TABLE, **{LAYER[format] + name: shape for name, shape in LAYER_TABLE.items()}}
    expected |= NORMS_TABLE if norms else {}
    found = load_file(report.path / "model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == expected
    kinds = {"d2t": torch.int64, "t2d": torch.bool}
    assert {name: tensor.dtype for name, tensor in found.items()} == {
        name: kinds.get(name, torch.bfloat16) for name in expected
    }
    assert (found["d2t"] + torch.arange(64)).tolist() == found["t2d"].nonzero()[:, 0].tolist()
    with safe_open(report.path / "model.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"  # transformers rejects files without it
    assert sorted(path.name for path in report.path.iterdir()) == ["config.json", "model.safetensors"]
    assert report.agreement.is_ok
    # float32 against float32 in another order; the tolerance is a thousand times as wide
    assert 0 <= report.agreement.max_difference < 2e-5


@pytest.mark.parametrize("format", ["sglang", "vllm", "eagle"])
def test_config_with_defaults(exported, format):
    """The tiny model has 8 layers: 2, 4, 5 are every tool's default, so that no ids are written."""
    assert _config(exported(format, **PLAIN)) == PLAIN_CONFIG


def test_layer_ids_count_outputs_for_sglang(exported):
    """SGLang adds one to each."""
    expected = {"use_aux_hidden_state": True, "eagle_aux_hidden_state_layer_ids": [0, 2, 6]}
    found = _config(exported("sglang", **ODD))
    assert found == {**PLAIN_CONFIG, "fc_norm": True, "norm_output": True, "eagle_config": expected}


def test_layer_ids_count_entering_states_for_vllm(exported):
    found = _config(exported("vllm", norm_before_residual=True, **PLAIN, **ODD))
    assert found == {**PLAIN_CONFIG, "norm_before_residual": True, "eagle_aux_hidden_state_layer_ids": [1, 3, 7]}


def test_speculators_config(exported, tiny_folder):
    assert _config(exported("speculators", **ODD)) == {
        "architectures": ["Eagle3DraftModel"],
        "speculators_model_type": "eagle3",
        "speculators_version": "0.7.0",
        "draft_vocab_size": 64,
        "norm_before_residual": False,
        "norm_before_fc": False,
        "fc_norm": True,
        "norm_output": True,
        "embed_requires_grad": False,
        "target_hidden_size": None,
        "eagle_aux_hidden_state_layer_ids": [1, 3, 7],
        "transformer_layer_config": {"architectures": ["LlamaForCausalLM"], **LAYER_CONFIG},
        "speculators_config": {
            "algorithm": "eagle3",
            "default_proposal_method": "greedy",
            "proposal_methods": [
                {
                    "proposal_type": "greedy",
                    "speculative_tokens": 3,
                    "verifier_accept_k": 1,
                    "accept_tolerance": 0.0,
                }
            ],
            "verifier": {"name_or_path": str(tiny_folder), "architectures": ["LlamaForCausalLM"]},
        },
        "torch_dtype": "bfloat16",
    }


@pytest.mark.parametrize("format", FORMATS)
def test_the_shipped_head_has_the_names_of_the_table(format):
    """H 576, 9 heads on 3 of width 64, MLP 1536, 49152 tokens of which 4096 are drafted."""
    tensors = load_file(SHIPPED / "smollm2-135m-instruct" / "model.safetensors")
    config = json.loads((SHIPPED / "smollm2-135m-instruct" / "config.json").read_text())

    class Shape:
        draft_vocab_size, vocab_size = config["draft_vocab_size"], config["vocab_size"]

    found = file_tensors(tensors, Shape(), LAYOUTS[format], torch.bfloat16)
    at = LAYER[format]
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {
        "fc.weight": (576, 1728),
        "fc_norm.0.weight": (576,),
        "fc_norm.1.weight": (576,),
        "fc_norm.2.weight": (576,),
        f"{at}hidden_norm.weight": (576,),
        f"{at}input_layernorm.weight": (576,),
        f"{at}post_attention_layernorm.weight": (576,),
        f"{at}self_attn.q_proj.weight": (576, 1152),
        f"{at}self_attn.k_proj.weight": (192, 1152),
        f"{at}self_attn.v_proj.weight": (192, 1152),
        f"{at}self_attn.o_proj.weight": (576, 576),
        f"{at}mlp.gate_proj.weight": (1536, 576),
        f"{at}mlp.up_proj.weight": (1536, 576),
        f"{at}mlp.down_proj.weight": (576, 1536),
        "norm.weight": (576,),
        "lm_head.weight": (4096, 576),
        "d2t": (4096,),
        "t2d": (49152,),
    }


def test_a_full_draft_vocabulary_needs_no_mapping(tiny_target, tiny_folder, make_head, tmp_path):
    """Without d2t every tool uses draft ids as target ids."""
    save_head(tmp_path / "own", make_head(tiny_target, draft_vocab=258), tiny_target, {})
    cfg = ExportConfig(head=tmp_path / "own", format="vllm", target=TargetConfig(model=str(tiny_folder)))
    report = export_head(cfg, tmp_path / "out", device="cpu", metrics=Metrics(None))
    assert not {"d2t", "t2d"} & load_file(report.path / "model.safetensors").keys()
    assert report.agreement.is_ok
    back, _ = load_head(report.path, tiny_target)
    assert back.draft_to_target.tolist() == list(range(258))


# --------------------------------------------------------------------------------------------------------------------
# export and import


@pytest.mark.parametrize("format", FORMATS)
def test_export_and_import_give_the_same_bytes(exported, tmp_path, tiny_folder, tiny_target, format):
    report = exported(format, **({**PLAIN} if format == "eagle" else ODD))
    cfg = ImportConfig(head=report.path, target=TargetConfig(model=str(tiny_folder)))
    back = import_head(cfg, tmp_path / "back", device="cpu", metrics=Metrics(None))
    assert back.rope == "as the target"
    own, returned = tmp_path / "own", tmp_path / "back"
    before, after = (load_file(folder / "model.safetensors") for folder in (own, returned))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype, name
        assert torch.equal(tensor, after[name]), name
    # equal in every byte, target name and metrics included
    assert json.loads((own / "config.json").read_text()) == json.loads((returned / "config.json").read_text())
    assert load_head(own, tiny_target)[0].shape == load_head(returned, tiny_target)[0].shape


@pytest.mark.parametrize("format", FORMATS)
def test_a_foreign_head_drafts_the_same_trees(exported, tmp_path, tiny_target, format):
    """`draft.path` accepts an export."""
    report = exported(format, **PLAIN)
    ids = list(range(40, 70))
    trees = []
    for folder in (tmp_path / "own", report.path):
        head, info = load_head(folder, tiny_target)
        assert info.metrics == {"val_acc_0": 0.5}
        drafter = Eagle3(head, tiny_target, name="it")
        drafter.start(ids, tiny_target.features(torch.tensor([ids]))[0][0])
        trees.append(drafter.propose(7, TreeConfig(nodes=10, depth=4, top_k=4)))
    assert trees[0].tokens.tolist() == trees[1].tokens.tolist()
    assert torch.equal(trees[0].scores, trees[1].scores)


def test_convert_between_formats(exported, tmp_path, tiny_folder):
    """Export accepts heads of other tools and keeps half precision."""
    first = exported("sglang", **ODD)
    tensors = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in load_file(first.path / "model.safetensors").items()
    }
    save_file(tensors, first.path / "model.safetensors")
    cfg = ExportConfig(head=first.path, format="speculators", target=TargetConfig(model=str(tiny_folder)))
    second = export_head(cfg, tmp_path / "second", device="cpu", metrics=Metrics(None))
    assert second.agreement.is_ok
    found = load_file(second.path / "model.safetensors")
    for name, tensor in tensors.items():
        assert torch.equal(found[name.replace("midlayer", "layers.0")], tensor)
    assert _config(second)["transformer_layer_config"]["torch_dtype"] == "float16"
    assert _config(second)["eagle_aux_hidden_state_layer_ids"] == [1, 3, 7]


# --------------------------------------------------------------------------------------------------------------------
# rejected exports


@pytest.mark.parametrize(
    ("format", "made", "unknown"),
    [
        ("eagle", {}, "fc_norm, norm_output"),
        ("eagle", {**PLAIN, **ODD}, "feature layers 1, 3, 7 (always 2, 4, 5)"),
        ("eagle", {**PLAIN, "norm_before_residual": True}, "norm_before_residual"),
        ("sglang", {"norm_before_residual": True}, "norm_before_residual"),
    ],
    ids=["norms", "layers", "residual", "sglang"],
)
def test_unsupported_features_are_rejected(exported, tmp_path, format, made, unknown):
    """The tool would silently load an incompatible head."""
    with pytest.raises(EdgeAIError) as caught:
        exported(format, **made)
    assert caught.value.message == f"{format} cannot run {tmp_path / 'own'}: it does not support {unknown}"
    assert caught.value.hint == (
        "use another --format, or change head.fc_norm, head.norm_output or head.aux_layers and train again"
    )
    assert not (tmp_path / format).exists()


def test_an_existing_folder_is_not_overwritten(exported, tmp_path):
    (tmp_path / "vllm").mkdir()
    assert exported("vllm").path == tmp_path / "vllm"  # an empty folder is accepted
    with pytest.raises(UsageError) as caught:
        exported("vllm")
    assert (caught.value.message, caught.value.hint) == (
        f"{tmp_path / 'vllm'} already exists",
        "give a new folder as --out",
    )


def test_an_export_that_fails_the_check_stays_partial(exported, tmp_path, monkeypatch):
    """A writer with the wrong RoPE base."""
    write = export.config_for
    monkeypatch.setattr(export, "config_for", lambda *args: {**write(*args), "rope_theta": 500.0})
    report = exported("sglang")
    assert not report.agreement.is_ok
    assert report.agreement.max_difference > 10 * report.agreement.tolerance
    assert not (tmp_path / "sglang").exists()
    assert (tmp_path / "sglang.partial" / "config.json").is_file()
    monkeypatch.undo()
    assert exported("sglang").agreement.is_ok  # a leftover partial folder is replaced
    assert not (tmp_path / "sglang.partial").exists()


def test_the_target_is_read_from_the_file(own_head, tiny_folder, tmp_path, edit):
    head = own_head()
    cfg = ExportConfig(head=head, format="vllm")
    assert plan_export(cfg, device="cpu", metrics=Metrics(None)).target == str(tiny_folder)
    edit(head, config=lambda c: c["edgeai"].update(target=""))
    with pytest.raises(UsageError) as caught:
        plan_export(cfg, device="cpu", metrics=Metrics(None))
    assert (caught.value.message, caught.value.hint) == (
        f"{head} does not name its target model",
        "give it with -s target.model=MODEL",
    )


def test_the_target_is_read_from_the_training_run(own_head, tiny_folder, tmp_path):
    """Including the number format."""
    own_head().rename(tmp_path / "best")
    (tmp_path / "run.json").write_text("{}")
    trained = TrainConfig(target=TargetConfig(model=str(tiny_folder), dtype="float16"))
    (tmp_path / "config.yaml").write_text(dump_config(trained))
    assert target_of(None, tmp_path) == trained.target
    other = TargetConfig(model="other")
    assert target_of(other, tmp_path) == other


def test_notes_and_commands(exported, tmp_path):
    report = exported("vllm")
    assert report.plan.notes == (
        "needs a vLLM version with EAGLE-3.1 (fc_norm, norm_output): older versions reject the file or silently "
        "ignore the norms",
    )
    assert report.serve.endswith(
        f'--speculative-config \'{{"method": "eagle3", "model": "{tmp_path / "vllm"}", "num_speculative_tokens": 3}}\''
    )
    assert exported("sglang", **PLAIN).plan.notes == ()
