"""Finding and loading a target: what is refused, in one line and with a hint."""

import shutil

import pytest

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.target.build import build_target
from edgeai.spec.target.loading import default_aux_layers
from edgeai.spec.tiny import write_tiny_model

HINT = "give a model folder, a .gguf file, a Hugging Face id (owner/name), or a name from `edgeai assets list`"


def _load(model):
    return build_target(TargetConfig(model=str(model), dtype="float32"), device="cpu", metrics=Metrics(None))


def test_unknown_name():
    with pytest.raises(UsageError) as caught:
        _load("nosuch")
    assert str(caught.value) == "no model called 'nosuch'"
    assert caught.value.hint == f"{HINT}; known names: smollm2-135m-instruct"


def test_missing_gguf_and_file_that_is_no_model(tmp_path):
    with pytest.raises(UsageError, match=r"^no such GGUF file: .*none\.gguf$"):
        _load(tmp_path / "none.gguf")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UsageError, match=r"notes\.txt is not a model folder, a GGUF file or a Hub id$"):
        _load(tmp_path / "notes.txt")
    with pytest.raises(UsageError, match=r"is not a model folder: config\.json is missing$"):
        _load(tmp_path)


def test_garbage_weights_and_garbage_gguf(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEAI_CACHE", str(tmp_path / "cache"))
    write_tiny_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_text("garbage")
    with pytest.raises(EdgeAIError, match=r"^cannot load the weights of '.*model': ") as caught:
        _load(tmp_path / "model")
    assert caught.value.hint == HINT
    (tmp_path / "x.gguf").write_text("garbage")
    with pytest.raises(EdgeAIError, match=r"x\.gguf is not a readable GGUF file: "):
        _load(tmp_path / "x.gguf")


def test_another_family(tmp_path):
    write_tiny_model(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"llama"', '"gpt2"'))
    with pytest.raises(UsageError, match=r"model type 'gpt2'; supported types are llama, mistral, qwen2, qwen3$"):
        _load(tmp_path)


def test_fingerprint_tells_weights_apart(tmp_path):
    write_tiny_model(tmp_path / "a", seed=1)
    write_tiny_model(tmp_path / "b", seed=2)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    a, b, copy = (_load(tmp_path / name).fingerprint for name in ("a", "b", "copy"))
    assert a == copy
    assert a != b


def test_default_feature_layers():
    """The states entering layers 2, n/2 and n-3; shallow models get distinct ones."""
    assert default_aux_layers(32) == (2, 16, 29)
    assert default_aux_layers(4) == (1, 2, 3)
    for num_layers in range(3, 40):
        assert len({*default_aux_layers(num_layers)} & {*range(num_layers)}) == 3
