"""Heads of other tools: what is accepted, how it is converted, and the literal errors for the rest."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeai.core.errors import UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.draft import Eagle3Draft
from edgeai.spec.config.export import ImportConfig
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.draft.build import build_drafter
from edgeai.spec.draft.checkpoint import load_head
from edgeai.spec.draft.rope import Rope
from edgeai.spec.formats.import_head import import_head

IDS = "eagle_aux_hidden_state_layer_ids"
PLAIN = {"fc_norm": False, "norm_output": False}


@pytest.fixture
def published(exported):
    """A head in EAGLE-3 files without any metadata of edgeai."""
    folder = exported("vllm", **PLAIN).path
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors")
    return folder


def _refusal(folder, target):
    with pytest.raises(UsageError) as caught:
        load_head(folder, target)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value.message


def _same(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture
def own(published, tiny_target, tmp_path):
    return load_head(tmp_path / "own", tiny_target)[0]


# --------------------------------------------------------------------------------------------------------------------
# accepted files


def test_the_files_of_the_eagle_repository(published, own, tiny_target, edit):
    """pytorch_model.bin in half precision; a config without layer ids, RoPE base or head width."""
    for name in ("rope_theta", "rope_scaling", "head_dim", "attention_bias", "mlp_bias"):
        edit(published, config=lambda c, name=name: c.pop(name))
    tensors = load_file(published / "model.safetensors")
    half = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    torch.save(half, published / "pytorch_model.bin")
    (published / "model.safetensors").unlink()
    head, info = load_head(published, tiny_target)
    assert _same(head, own)
    assert (head.shape, info.dtype, info.format) == (own.shape, torch.float16, "EAGLE-3")
    assert (info.target, info.fingerprint, info.metrics) == ("", "", {})


def test_own_rope_base(published, tiny_target, edit):
    """The tiny model's RoPE base is 10000."""
    assert load_head(published, tiny_target)[0].shape.rope is None
    edit(published, config=lambda c: c.update(rope_theta=500000.0))
    assert load_head(published, tiny_target)[0].shape.rope == Rope(500000.0)
    edit(published, config=lambda c: c.update(rope_scaling={"type": "linear", "factor": 2.0}))
    assert load_head(published, tiny_target)[0].shape.rope == Rope(500000.0, "linear", 2.0)


def test_tuning_results_are_kept_per_head(published, tiny_target, edit):
    """Equal weights with another RoPE base or other feature layers get another name."""
    names = [build_drafter(Eagle3Draft(path=published), tiny_target, Metrics(None)).name]
    for change in ({"rope_theta": 500000.0}, {IDS: [1, 3, 7]}):
        edit(published, config=lambda c, change=change: c.update(change))
        names.append(build_drafter(Eagle3Draft(path=published), tiny_target, Metrics(None)).name)
    assert len(set(names)) == 3


def test_own_rope_base_survives_import(published, tiny_folder, tiny_target, edit, tmp_path):
    edit(published, config=lambda c: c.update(rope_theta=500000.0))
    cfg = ImportConfig(head=published, target=TargetConfig(model=str(tiny_folder)))
    report = import_head(cfg, tmp_path / "mine", device="cpu", metrics=Metrics(None))
    assert report.rope == "base 500000, scaling default"
    head, info = load_head(tmp_path / "mine", tiny_target)
    assert head.shape.rope == Rope(500000.0)
    assert (info.target, info.format) == (str(tiny_folder), "edgeai")
    assert info.fingerprint == tiny_target.fingerprint


@pytest.mark.parametrize(
    ("ids", "nested", "entering"),
    [
        ([1, 3, 7], None, (1, 3, 7)),
        (None, [0, 2, 6], (1, 3, 7)),
        ([1, 3, 7], [0, 2, 6], (1, 3, 7)),
        (None, None, (2, 4, 5)),
        (None, [1, 3, 4], (2, 4, 5)),
    ],
    ids=["vLLM", "SGLang", "both", "neither", "SGLang, usual"],
)
def test_conventions_of_layer_ids(published, tiny_target, edit, ids, nested, entering):
    edit(published, config=lambda c: c.update({IDS: ids} if ids else {}))
    edit(published, config=lambda c: c.update(eagle_config={"use_aux_hidden_state": True, IDS: nested}))
    head, info = load_head(published, tiny_target)
    assert head.shape.aux_layers == entering
    assert info.format == ("EAGLE-3, layer ids as in SGLang" if nested else "EAGLE-3")


def _fuse(tensors):
    at = "midlayer.self_attn"
    tensors[f"{at}.qkv_proj.weight"] = torch.cat([tensors.pop(f"{at}.{name}_proj.weight") for name in "qkv"])
    gate_up = [tensors.pop(f"midlayer.mlp.{name}_proj.weight") for name in ("gate", "up")]
    tensors["midlayer.mlp.gate_up_proj.weight"] = torch.cat(gate_up)


def _rename(tensors):
    for name in list(tensors):
        if name not in ("d2t", "t2d", "lm_head.weight"):
            tensors[f"model.{name.replace('midlayer', 'layers.0')}"] = tensors.pop(name)


@pytest.mark.parametrize(
    "change",
    [
        _fuse,
        _rename,
        lambda t: t.update(d2t=t["d2t"] + torch.arange(64)),
        lambda t: t.update(d2t=t["d2t"].int(), t2d=t["t2d"].to(torch.uint8)),
        lambda t: t.pop("t2d"),
    ],
    ids=["fused", "model. and layers.0", "ids in d2t", "narrow", "no t2d"],
)
def test_equivalent_files(published, own, tiny_target, edit, change):
    edit(published, tensors=change)
    assert _same(load_head(published, tiny_target)[0], own)


def test_ids_in_d2t_are_detected_without_t2d(published, tiny_target, edit):
    """Read as offsets, the values would exceed the vocabulary."""
    edit(published, tensors=lambda t: (t.update(d2t=torch.arange(194, 258)), t.pop("t2d")))
    assert load_head(published, tiny_target)[0].draft_to_target.tolist() == list(range(194, 258))


def test_the_targets_embedding_is_dropped(published, own, tiny_target, edit):
    """In full and in half precision."""
    edit(published, tensors=lambda t: t.update({"embed_tokens.weight": tiny_target.embedding.half()}))
    assert _same(load_head(published, tiny_target)[0], own)


def test_a_head_without_an_output_matrix_takes_the_targets(published, tiny_target, edit):
    """As SGLang does where draft_vocab_size is null."""
    edit(published, config=lambda c: c.update(draft_vocab_size=None))
    edit(published, tensors=lambda t: [t.pop(name) for name in ("d2t", "t2d", "lm_head.weight")])
    head, _ = load_head(published, tiny_target)
    assert torch.equal(head.lm_head.weight, tiny_target.lm_head)
    assert head.draft_to_target.tolist() == list(range(258))


def test_switches(published, tiny_target, edit):
    edit(published, config=lambda c: c.update(norm_output=True, norm_before_residual=True))
    shape = load_head(published, tiny_target)[0].shape
    assert (shape.fc_norm, shape.norm_output, shape.norm_before_residual) == (False, True, True)


# --------------------------------------------------------------------------------------------------------------------
# rejected files


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t.pop("fc.weight"), "no fc.weight"),
        (lambda t: t.update({"extra.weight": torch.zeros(1)}), "unknown extra.weight"),
        (lambda t: t.update({"layers.1.x": torch.zeros(1)}), "unknown layers.1.x"),
        (lambda t: t.update({"input_norm.weight": torch.ones(192)}), "unknown input_norm.weight"),
        (
            lambda t: t.update({"midlayer.self_attn.q_norm.weight": torch.ones(16)}),
            "unknown midlayer.self_attn.q_norm.weight",
        ),
        (lambda t: t.update({"norm.weight": torch.ones(32)}), "norm.weight is [32], not [64]"),
        (
            lambda t: t.update({"midlayer.self_attn.k_proj.weight": torch.ones(64, 128)}),
            "midlayer.self_attn.k_proj.weight is [64, 128], not [32, 128]",
        ),
        (lambda t: t.update({"norm.weight": torch.ones(64, dtype=torch.int8)}), "norm.weight is of int8"),
        (lambda t: t.update(t2d=torch.ones(60, dtype=torch.bool)), "t2d is [60], not [258]"),
        (lambda t: t.update(d2t=t["d2t"][:60]), "d2t is [60], not [64]"),
    ],
    ids=["missing", "unknown", "two layers", "gpt-oss", "qwen3", "shape", "kv heads", "int8", "t2d", "d2t"],
)
def test_tensors_that_do_not_match(published, tiny_target, edit, change, problem):
    edit(published, tensors=change)
    assert _refusal(published, tiny_target) == f"{published}: tensors do not match the head's config: {problem}"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda c: c.update(norm_before_fc=True), ": config.json sets norm_before_fc, which this head does not have"),
        (lambda c: c.update(attention_bias=True), ": config.json sets attention_bias, which this head does not have"),
        (lambda c: c.update(hidden_act="gelu"), ": hidden_act is 'gelu'; only silu is supported"),
        (
            lambda c: c.update(eagle_config={"use_aux_hidden_state": False}),
            " drafts from the last hidden state (EAGLE), not from three (EAGLE-3)",
        ),
        (lambda c: c.update({IDS: [5, 2, 4]}), ": the feature layers [5, 2, 4] are not in ascending order"),
        (
            lambda c: c.update({IDS: [1, 3, 7], "eagle_config": {IDS: [1, 3, 7]}}),
            ": config.json names two sets of feature layers: entering [1, 3, 7], and outputs of [1, 3, 7] in "
            "eagle_config",
        ),
        (lambda c: c.update({IDS: [2, 4, 8]}), " drafts for a model from layer 8, but TARGET has 8 layers"),
        (lambda c: c.update(vocab_size=128256), " drafts for a model with 128256 tokens, but TARGET has 258"),
        (lambda c: c.update(target_hidden_size=4096), " drafts for a model of width 4096, but TARGET has width 64"),
        (
            lambda c: c.update(hidden_size=32, target_hidden_size=64),
            " is a head of width 32, but the embedding it borrows from TARGET has width 64",
        ),
        (
            lambda c: c.update(rope_scaling={"rope_type": "yarn", "factor": 4.0}),
            ": the head scales its positions by 'yarn'; known are default, linear and llama3",
        ),
        (lambda c: c.pop("hidden_size"), " does not contain a readable draft head: config.json has no hidden_size"),
        (
            lambda c: c.update(eagle_config=[1]),
            " does not contain a readable draft head: eagle_config in config.json is not an object",
        ),
    ],
    ids=[
        "norm_before_fc",
        "bias",
        "activation",
        "EAGLE",
        "order",
        "two conventions",
        "layers",
        "vocabulary",
        "width",
        "own embedding",
        "yarn",
        "no width",
        "list",
    ],
)
def test_configs_that_do_not_fit(published, tiny_target, edit, change, problem):
    edit(published, config=change)
    expected = f"{published}{problem.replace('TARGET', tiny_target.name)}"
    assert _refusal(published, tiny_target) == expected


def test_no_layer_ids_and_too_few_layers_for_the_default(published, target):
    """A model with four layers: the default would be 2, 2 and 1."""
    assert _refusal(published, target) == (
        f"{published}: config.json names no feature layers, and the default [2, 2, 1] is not three of the 4 "
        "layers of tiny"
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t.update(d2t=t["d2t"] + 1), "d2t cannot be 64 of the 258 tokens of t2d"),
        (lambda t: (t.update(d2t=torch.full((64,), 250)), t.pop("t2d")), "d2t cannot be 64 of the 258 tokens"),
        (lambda t: t.pop("d2t"), "without d2t, the first tokens cannot be 64 of the 258 tokens of t2d"),
        (
            lambda t: (t.update(d2t=torch.arange(0, 128, 2)), t.pop("t2d")),
            "d2t may be offsets or token ids; t2d, which would decide, is missing",
        ),
    ],
    ids=["against t2d", "beyond", "missing", "either"],
)
def test_invalid_draft_vocabularies(published, tiny_target, edit, change, problem):
    edit(published, tensors=change)
    assert _refusal(published, tiny_target) == f"{published}: {problem}"


def test_another_embedding(published, tiny_target, edit):
    """Two random matrices of equal norm differ by about sqrt(2) times that norm."""
    other = tiny_target.embedding.flip(0).contiguous()
    edit(published, tensors=lambda t: t.update({"embed_tokens.weight": other}))
    message = _refusal(published, tiny_target)
    assert message.startswith(f"{published}: embed_tokens is not that of {tiny_target.name}: they differ by 1")
    assert message.endswith("% of its norm")
    edit(published, tensors=lambda t: t.update({"embed_tokens.weight": other[:, :32].contiguous()}))
    assert _refusal(published, tiny_target) == (
        f"{published}: embed_tokens is [258, 32], that of {tiny_target.name} is [258, 64]; heads with their own "
        "embedding are not supported"
    )


def test_one_tensor_under_two_names(published, tiny_target, edit):
    edit(published, tensors=lambda t: t.update({"layers.0.mlp.up_proj.weight": torch.zeros(128, 64)}))
    message = _refusal(published, tiny_target)
    assert message.startswith(f"{published} contains one tensor twice: ")
    assert {"midlayer.mlp.up_proj.weight", "layers.0.mlp.up_proj.weight"} <= set(message.split())


def test_invalid_speculators_configs(exported, tiny_target, edit):
    folder = exported("speculators").path
    assert load_head(folder, tiny_target)[1].format == "speculators"
    edit(folder, config=lambda c: c.pop("norm_before_residual"))
    assert _refusal(folder, tiny_target) == (
        f"{folder}: config.json lacks norm_before_residual; vLLM assumes true and speculators assumes false"
    )
    edit(folder, config=lambda c: c.update(speculators_model_type="dflash"))
    assert _refusal(folder, tiny_target) == f"{folder} is a 'dflash' draft model; only eagle3 is supported"


def test_an_export_names_its_target(exported, tiny_target):
    """Another model of the same shape is detected from the metadata of the file."""
    folder = exported("sglang").path
    other = object.__new__(type(tiny_target))
    other.__dict__.update(tiny_target.__dict__, name="other", fingerprint="cafe")
    assert _refusal(folder, other) == (
        f"{folder} was trained for {tiny_target.name} (weights {tiny_target.fingerprint}), not for other (weights cafe)"
    )


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x02]q\x00."], ids=["empty", "garbage", "a list"])
def test_corrupt_pytorch_file(published, tiny_target, content):
    (published / "model.safetensors").unlink()
    (published / "pytorch_model.bin").write_bytes(content)
    assert _refusal(published, tiny_target).startswith(f"{published} does not contain a readable draft head: ")


def test_no_code_runs_from_a_pytorch_file(published, tiny_target, tmp_path):
    """Pickle can call any function; only tensors are loaded."""

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trap"), "w"))

    (published / "model.safetensors").unlink()
    torch.save({"fc.weight": Trap()}, published / "pytorch_model.bin")
    assert _refusal(published, tiny_target).startswith(f"{published} does not contain a readable draft head: ")
    assert not (tmp_path / "trap").exists()


def test_import_usage_errors(published, tiny_folder, tmp_path):
    def refusal(head, out, target=None):
        with pytest.raises(UsageError) as caught:
            import_head(ImportConfig(head=head, target=target), out, device="cpu", metrics=Metrics(None))
        return caught.value.message, caught.value.hint

    target = TargetConfig(model=str(tiny_folder))
    assert refusal(tmp_path / "own", tmp_path / "out", target) == (
        f"{tmp_path / 'own'} is already an edgeai head",
        f"use it with -s draft.path={tmp_path / 'own'}",
    )
    assert refusal(published, tmp_path / "out") == (
        f"{published} does not name its target model",
        "give it with -s target.model=MODEL",
    )
    assert refusal(published, tmp_path / "own", target)[0] == f"{tmp_path / 'own'} already exists"
    assert refusal(tmp_path / "none", tmp_path / "out", target)[0] == f"no draft head in {tmp_path / 'none'}"


def test_import_without_writing(published, tiny_folder, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    cfg = ImportConfig(head=published, target=TargetConfig(model=str(tiny_folder)))
    report = import_head(cfg, None, device="cpu", metrics=Metrics(None))
    assert sorted(tmp_path.rglob("*")) == before
    assert report.to_json() == {
        "path": None,
        "source": str(published),
        "format": "EAGLE-3",
        "target": str(tiny_folder),
        # fc, q, k and v, o, MLP, lm_head, four norms
        "num_parameters": 64 * 192 + 64 * 128 + 2 * 32 * 128 + 64 * 64 + 3 * 64 * 128 + 64 * 64 + 4 * 64,
        "dtype": "bfloat16",
        "draft_vocab_size": 64,
        "vocab_size": 258,
        "aux_layers": (2, 4, 5),
        "rope": "as the target",
        "switches": (),
    }
