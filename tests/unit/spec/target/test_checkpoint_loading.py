"""Hugging Face checkpoints on the native runtime: what torch computes, or quantized once at a stated cost."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.target import checkpoint_loading
from edgeai.spec.target.build import build_target
from edgeai.spec.target.native.library import Unavailable, load_library
from edgeai.spec.target.native.target import NativeTarget
from edgeai.spec.target.quality import measure_agreement
from edgeai.spec.tiny import write_tiny_model

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "tied": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": True}),
    "llama3": (LlamaConfig, LlamaForCausalLM, {"rope_scaling": LLAMA3}),
    "linear": (LlamaConfig, LlamaForCausalLM, {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    "yarn": (
        Qwen2Config,
        Qwen2ForCausalLM,
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}},
    ),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 32}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": 100}),
}
IDS = torch.randint(0, 256, (90,), generator=torch.Generator().manual_seed(0)).tolist()


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    try:
        load_library()
    except Unavailable as error:
        pytest.skip(str(error))
    monkeypatch.setenv("EDGEAI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    write_tiny_model(tmp_path / "tiny")
    return tmp_path / "tiny"


def write_model(folder, name, *, dtype=torch.float32):
    """A random model of a family with the tiny model's tokenizer; biases and norms are random too."""
    config, model, keys = MODELS[name]
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "vocab_size": 258}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
    torch.manual_seed(0)
    made = model(config(**sizes, **heads, **{"eos_token_id": 1, "bos_token_id": 0, "pad_token_id": None, **keys}))
    for parameter in made.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, mean=0.5, std=0.2)
        else:
            torch.nn.init.normal_(parameter, std=0.08)
    made.to(dtype).save_pretrained(folder)


def load(folder, runtime="native", metrics=None, **keys):
    config = TargetConfig(model=str(folder), runtime=runtime, dtype="float32", **keys)
    return build_target(config, device="cpu", metrics=metrics or Metrics(None))


@pytest.mark.parametrize("name", MODELS)
def test_every_family_gives_what_torch_gives(folder, name):
    """float32 sums in another order: 4 layers of width 64 stay far below 1e-3."""
    write_model(folder, name)
    ours, theirs = load(folder), load(folder, "torch")
    assert isinstance(ours, NativeTarget)
    assert ours.fingerprint == theirs.fingerprint
    assert ours.shape == theirs.shape
    assert ours.tokenizer.eos_ids == theirs.tokenizer.eos_ids
    a, b = (target.prefill(IDS, target.new_cache(96)) for target in (ours, theirs))
    torch.testing.assert_close(a.logits, b.logits, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(a.features, b.features, atol=1e-3, rtol=1e-3)
    assert torch.equal(ours.lm_head, theirs.lm_head)
    for mine, other in zip(ours.rotary, theirs.rotary, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_kept(folder, dtype):
    write_model(folder, "qwen2", dtype=dtype)
    ours, theirs = load(folder), load(folder, "torch")
    a, b = (target.prefill(IDS, target.new_cache(96)) for target in (ours, theirs))
    torch.testing.assert_close(a.logits, b.logits, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["llama3", "yarn", "qwen3", "tied"])
@pytest.mark.parametrize(("weights", "kl"), [("q8", 1e-3), ("q4", 5e-2)])
def test_quantized_weights_stay_close_and_say_how_close(folder, capsys, name, weights, kl):
    write_model(folder, name)
    said = []
    metrics = Metrics(None)
    metrics.note = said.append
    ours, theirs = load(folder, metrics=metrics, weights=weights), load(folder, "torch")
    found = measure_agreement(theirs, ours, [IDS])
    assert 0 < found.mean_kl_nats < kl
    assert found.top1_agreement > 0.5  # random weights: many tokens are nearly as probable as the best
    assert any(f"target.weights: {weights}: mean KL " in line for line in said)


def test_quantizing_happens_once_for_the_same_files(folder, cache, monkeypatch):
    write_model(folder, "llama")
    first = load(folder, weights="q4")
    (file,) = (cache / "models").glob("*.q4.gguf")
    stored = json.loads(file.with_suffix(".json").read_text())
    assert set(stored) == {"mean_kl_nats", "top1_agreement", "num_tokens"}

    def again(*_, **__):
        raise AssertionError("quantized again")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_loading, "write_quantized", again)
        patch.setattr(checkpoint_loading, "measure_agreement", again)
        assert load(folder, weights="q4").fingerprint == first.fingerprint
    weights = load_file(folder / "model.safetensors")
    save_file({name: 2 * tensor for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    assert load(folder, weights="q4").fingerprint != first.fingerprint
    assert len(list((cache / "models").glob("*.q4.gguf"))) == 2


def test_auto_takes_native_for_quantized_weights_only(folder):
    write_model(folder, "llama")

    def runtime(weights):
        config = TargetConfig(model=str(folder), weights=weights)
        return build_target(config, device="cpu", metrics=Metrics(None)).runtime

    assert runtime("as_is") == "torch"
    assert runtime("q8") == "native"


def refused(folder, error=EdgeAIError, **keys):
    with pytest.raises(error) as caught:
        load(folder, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change_config(folder, **keys):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **keys}))


def test_what_cannot_be_run_is_refused_with_the_reason(folder, tmp_path):
    assert "works on the native runtime only" in refused(folder, UsageError, runtime="torch", weights="q8")
    weights = load_file(folder / "model.safetensors")
    bad = {**weights, "model.layers.0.mlp.up_proj.weight": weights["model.norm.weight"].clone()}
    save_file(bad, folder / "model.safetensors", {"format": "pt"})
    assert "the tensor model.layers.0.mlp.up_proj.weight has the shape [64], not [128, 64]" in refused(folder)
    infinite = weights["model.layers.0.mlp.up_proj.weight"].clone()
    infinite[3, 5] = torch.inf
    bad = {**weights, "model.layers.0.mlp.up_proj.weight": infinite}
    save_file(bad, folder / "model.safetensors", {"format": "pt"})
    assert "'blk.0.ffn_up.weight' has values that are not finite" in refused(folder, weights="q4")
    assert not list((tmp_path / "cache" / "models").iterdir())
    change_config(folder, hidden_act="gelu")
    assert "its activation is 'gelu'" in refused(folder, UsageError)
    change_config(folder, hidden_act="silu", rope_scaling={"rope_type": "dynamic", "factor": 2.0})
    assert "its rotary scaling has the type 'dynamic'" in refused(folder, UsageError)
    change_config(folder, rope_scaling=None)
    (folder / "model.safetensors").write_bytes(b"\x10\0\0\0")
    assert "cannot read the weights of" in refused(folder)
    (folder / "model.safetensors").unlink()
    assert "cannot read" in refused(folder)
    assert "cannot read" in refused(folder, weights="q8")


def test_a_gguf_file_keeps_its_weights(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    assert "quantizes Hugging Face checkpoints" in refused(tmp_path / "a.gguf", UsageError, weights="q4")
