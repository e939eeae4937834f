"""config.json: what is not known to compute the same is refused, on both runtimes, in one line with a hint."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.target.build import build_target
from edgeai.spec.target.native.library import Unavailable, load_library
from edgeai.spec.tiny import write_tiny_model


@pytest.fixture(params=["torch", "native"])
def runtime(request, monkeypatch, tmp_path):
    if request.param == "native":
        try:
            load_library()
        except Unavailable as error:
            pytest.skip(str(error))
    monkeypatch.setenv("EDGEAI_CACHE", str(tmp_path / "cache"))
    return request.param


@pytest.fixture
def folder(tmp_path):
    write_tiny_model(tmp_path / "tiny")
    return tmp_path / "tiny"


def load(folder, runtime):
    config = TargetConfig(model=str(folder), runtime=runtime, dtype="float32")
    return build_target(config, device="cpu", metrics=Metrics(None))


def change(folder, file="config.json", **keys):
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def refusal(folder, runtime, error=EdgeAIError):
    with pytest.raises(error) as caught:
        load(folder, runtime)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value.message


REFUSED = [
    ({"hidden_act": "quick_gelu"}, "hidden_act: quick_gelu"),
    ({"hidden_act": 3}, "hidden_act: 3"),
    ({"logit_scale": 0.5}, "logit_scale: 0.5"),
    ({"embedding_multiplier": 12.0}, "embedding_multiplier: 12.0"),
    ({"final_logit_softcapping": 30.0}, "final_logit_softcapping: 30.0"),
    ({"no_rope_layers": [1, 0]}, "no_rope_layers: [1, 0]"),
    ({"some_new_key": False}, "some_new_key: False"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor: 0.5"),
    ({"rope_interleaved": True}, "rope_interleaved: True"),
    ({"is_encoder_decoder": True}, "is_encoder_decoder: True"),
    ({"layer_types": ["full_attention"] * 8}, "layer_types: "),
    ({"architectures": ["LlamaForSequenceClassification"]}, "architectures: ['LlamaForSequenceClassification']"),
    ({"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "rope_scaling.rope_type: longrope"),
    ({"rope_scaling": {"type": "su", "factor": 2.0}}, "rope_scaling.rope_type: su"),
    ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "swing": 1}}, "rope_scaling.swing: 1"),
    ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "rope_parameters.full_attention: "),
    ({"rope_scaling": "linear"}, "rope_scaling: linear"),
    ({"odd": "x" * 200}, "odd: " + "x" * 77 + "... in its"),
]


@pytest.mark.parametrize(("keys", "named"), REFUSED)
def test_keys_that_may_change_the_result_are_refused(folder, runtime, keys, named):
    change(folder, **keys)
    message = refusal(folder, runtime, UsageError)
    assert message.startswith(f"'{folder}' has {named}")
    assert message.endswith(" in its config.json, which is not supported")


def test_layer_types_of_qwen_need_their_window(folder, runtime):
    layers = ["sliding_attention"] * 8
    change(folder, model_type="qwen3", architectures=["Qwen3ForCausalLM"], layer_types=layers)
    assert "layer_types" in refusal(folder, runtime, UsageError)
    change(folder, layer_types=["chunked_attention"] * 8)
    assert "layer_types" in refusal(folder, runtime, UsageError)


@pytest.mark.parametrize("keys", [{"vocab_size": "many"}, {"rms_norm_eps": "1e-6"}, {"num_attention_heads": 5}])
def test_values_of_the_wrong_kind_are_one_line(folder, runtime, keys):
    change(folder, **keys)
    refusal(folder, runtime)


def test_keys_without_effect_are_accepted(folder, runtime):
    ids = list(range(40))
    plain = load(folder, runtime)
    change(
        folder,
        pretraining_tp=2,
        use_cache=False,
        temperature=0.6,
        initializer_range=0.5,
        attention_dropout=0.3,
        is_llama_config=True,
        rope_interleaved=False,
        quantization_config=None,
        some_new_key=None,
        _name_or_path="x/y",
    )
    other = load(folder, runtime)
    assert torch.equal(*(t.prefill(ids, t.new_cache(64)).logits for t in (plain, other)))


@pytest.mark.parametrize(
    "found",
    [{"quant_method": "gptq", "bits": 4}, {"quant_method": "awq"}, {"quant_method": "fp8"}, {"quant_algo": "x"}],
)
def test_quantized_checkpoints_of_other_tools_are_refused(folder, runtime, found):
    change(folder, quantization_config=found)
    method = next(iter(found.values()))
    assert refusal(folder, runtime, UsageError) == (
        f"'{folder}' holds weights quantized by another tool (quantization_config: {method})"
    )


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_foreign_code_is_neither_asked_for_nor_run(folder, runtime, monkeypatch, file):
    """The module would leave a mark; the question would read from stdin."""
    mark = folder / "mark"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w').write('ran')\nclass Evil: ...\n")
    change(folder, file, auto_map={"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"})
    if file == "tokenizer_config.json":
        change(folder, file, auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, tokenizer_class="Evil")
    monkeypatch.setattr("builtins.input", lambda *_: os.abort())
    assert "needs Python code of its own (auto_map: " in refusal(folder, runtime, UsageError)
    assert not mark.exists()


def test_an_unknown_type_with_code_is_not_run(folder, runtime, monkeypatch):
    mark = folder / "mark"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w').write('ran')\nclass Evil: ...\n")
    change(folder, model_type="evil", auto_map={"AutoConfig": "evil.Evil"})
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    assert "has the model type 'evil'" in refusal(folder, runtime, UsageError)
    assert not mark.exists()


def stored(folder, **change):
    """Rewrites the weights: None drops a tensor."""
    weights = {**load_file(folder / "model.safetensors"), **change}
    save_file({n: t for n, t in weights.items() if t is not None}, folder / "model.safetensors", {"format": "pt"})


TENSORS = [
    ({}, {"lm_head.weight": None}, "lacks the tensor lm_head.weight"),
    ({}, {"model.layers.3.mlp.up_proj.weight": None}, "lacks the tensor model.layers.3.mlp.up_proj.weight"),
    ({"num_hidden_layers": 9}, {}, "lacks the tensors model.layers.8."),
    ({"num_hidden_layers": 7}, {}, "has the tensors model.layers.7."),
    ({}, {"model.layers.0.self_attn.q_proj.bias": torch.zeros(64)}, "has the tensor model.layers.0.self_attn.q_proj.b"),
    ({"attention_bias": True}, {}, "lacks the tensors model.layers.0.self_attn."),
    ({}, {"extra.weight": torch.zeros(3)}, "has the tensor extra.weight, for which its config has no place"),
    ({"tie_word_embeddings": True}, {}, "its lm_head.weight is not the embedding"),
    ({"intermediate_size": 160}, {}, "160]"),
    ({"vocab_size": 300}, {}, ".weight has the shape [258, 64], not [300, 64]"),
]


@pytest.mark.parametrize(("keys", "tensors", "named"), TENSORS)
def test_a_checkpoint_holds_exactly_the_tensors_of_its_config(folder, runtime, keys, tensors, named):
    change(folder, **keys)
    stored(folder, **tensors)
    assert named in refusal(folder, runtime)


def test_tied_matrices_may_be_stored_twice(folder, runtime):
    """And buffers that old versions stored are no weights."""
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    change(folder, tie_word_embeddings=True)
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    stored(folder, **{"lm_head.weight": embedding.clone()}, **buffer)
    twice = load(folder, runtime)
    stored(folder, **{"lm_head.weight": None})
    once = load(folder, runtime)
    ids = list(range(40))
    assert torch.equal(*(t.prefill(ids, t.new_cache(64)).logits for t in (once, twice)))
