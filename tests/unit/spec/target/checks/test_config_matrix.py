"""Config keys times values against transformers in float32: equal within a stated bound or refused, nothing between."""

import json
import random

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from edgeai.core.errors import EdgeAIError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.target.build import build_target
from edgeai.spec.target.native.library import Unavailable, load_library
from edgeai.spec.tiny import write_tiny_model

ATOL = {"torch": 2e-4, "native": 3e-3}
"""Of logits of about one: other orders of summation, and on the native runtime keys and values in half precision,
differ by less than a tenth of this; a key that is ignored by more than ten times."""
IDS = torch.randint(2, 258, (40,), generator=torch.Generator().manual_seed(0)).tolist()
CLASSES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
BASE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 258,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "use_sliding_window": False,
}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
LONG = {"short_factor": [1.5] * 8, "long_factor": [3.0] * 8, "original_max_position_embeddings": 16}
BOTH, TORCH, NONE = ("torch", "native"), ("torch",), ()
SINGLE = [
    ({}, BOTH),
    ({"hidden_act": "gelu"}, TORCH),
    ({"hidden_act": "gelu_new"}, TORCH),
    ({"hidden_act": "relu"}, TORCH),
    ({"hidden_act": "quick_gelu"}, NONE),
    ({"tie_word_embeddings": True}, BOTH),
    ({"attention_bias": True}, BOTH),
    ({"mlp_bias": True}, BOTH),
    ({"head_dim": 32}, BOTH),
    ({"num_key_value_heads": 1}, BOTH),
    ({"num_key_value_heads": 4}, BOTH),
    ({"rms_norm_eps": 0.1}, BOTH),
    ({"rope_theta": 100.0}, BOTH),
    ({"rope_scaling": {"type": "linear", "factor": 4.0}}, BOTH),
    ({"rope_scaling": {"rope_type": "llama3", **LLAMA3}}, BOTH),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}}, BOTH),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.3, "beta_fast": 8}}, BOTH),
    ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, TORCH),
    ({"rope_scaling": {"rope_type": "longrope", "factor": 8.0, **LONG}}, NONE),
    ({"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}, BOTH),
    ({"partial_rotary_factor": 0.5}, NONE),
    ({"sliding_window": 16}, BOTH),
    ({"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 1}, BOTH),
    ({"pretraining_tp": 4, "attention_dropout": 0.5, "use_cache": False}, BOTH),
    ({"logit_scale": 2.0}, NONE),
    ({"final_logit_softcapping": 5.0}, NONE),
    ({"no_rope_layers": [0, 1]}, NONE),
]
VALUES = [keys for keys, _ in SINGLE if keys]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tiny_model(folder)
    return folder


@pytest.fixture(scope="module")
def runtimes():
    try:
        load_library()
    except Unavailable:
        return TORCH
    return BOTH


def write(folder, tiny, family, keys):
    """A random model of a family with these keys in its config.json."""
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny / name).read_bytes())
    raw = {**BASE, "model_type": family, "architectures": [f"{CLASSES[family]}ForCausalLM"], **keys}
    (folder / "config.json").write_text(json.dumps(raw))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    for parameter in model.parameters():
        one = parameter.dim() == 1
        torch.nn.init.normal_(parameter, mean=0.5 if one else 0.0, std=0.2 if one else 0.12)
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(raw))  # save_pretrained wrote its own


def compare(folder, runtime):
    """ "refused", or "equal" after checking it."""
    try:
        config = TargetConfig(model=str(folder), runtime=runtime, dtype="float32")
        target = build_target(config, device="cpu", metrics=Metrics(None))
    except EdgeAIError as error:
        return "refused" if "\n" not in error.message else "refused in several lines"
    ids = IDS[: target.shape.max_positions]
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        wanted = theirs(torch.tensor([ids])).logits[0, -1]
    found = target.prefill(ids, target.new_cache(len(ids))).logits[0]
    assert wanted.std() > 0.1
    torch.testing.assert_close(found, wanted, atol=ATOL[runtime], rtol=ATOL[runtime])
    return "equal"


@pytest.mark.parametrize(("keys", "supported"), SINGLE, ids=[json.dumps(keys)[:60] for keys, _ in SINGLE])
def test_each_value_is_computed_as_transformers_does_or_refused(tmp_path, tiny, runtimes, keys, supported):
    family = "mistral" if keys == {"sliding_window": 16} else "qwen2" if "use_sliding_window" in keys else "llama"
    write(tmp_path / "model", tiny, family, keys)
    for runtime in runtimes:
        assert compare(tmp_path / "model", runtime) == ("equal" if runtime in supported else "refused"), runtime


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(150))
def test_random_combinations(tmp_path, tiny, runtimes, seed):
    rng = random.Random(seed)
    keys = {}
    for chosen in rng.sample(VALUES, rng.randint(1, 3)):
        keys |= chosen
    try:
        write(tmp_path / "model", tiny, rng.choice(sorted(CLASSES)), keys)
    except (KeyError, ValueError, AttributeError, TypeError, RuntimeError) as error:
        pytest.skip(f"transformers has no such model: {error}")
    for runtime in runtimes:
        compare(tmp_path / "model", runtime)
