"""The config in a GGUF header: as transformers reads it, and refused with one line."""

import pytest
from gguf import GGUFWriter
from transformers import AutoConfig

from edgeai.core.errors import EdgeAIError
from edgeai.core.metrics import Metrics
from edgeai.spec.target import loading
from edgeai.spec.target.native.gguf_config import end_tokens, gguf_config


@pytest.fixture
def header(tmp_path):
    """header(arch, **keys): a GGUF file without tensors ("__" is a dot; None leaves a key out)."""

    def write(arch, **keys):
        path = tmp_path / f"{arch}.gguf"
        writer = GGUFWriter(path, arch)
        usual = {
            "block_count": 5,
            "context_length": 4096,
            "embedding_length": 64,
            "feed_forward_length": 128,
            "attention__head_count": 4,
            "attention__head_count_kv": 2,
            "attention__layer_norm_rms_epsilon": 1e-5,
            "vocab_size": 100,
            "rope__freq_base": 500000.0,
        }
        for name, value in {**usual, **keys}.items():
            if value is not None:
                typed = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}[type(value)]
                typed(f"{arch}.{name.replace('__', '.')}", value)
        writer.add_bos_token_id(7)
        writer.add_eos_token_id(8)
        writer.add_pad_token_id(9)
        writer.add_eot_token_id(6)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write


@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3"])
def test_the_config_is_that_of_transformers(header, arch):
    path = header(arch)
    theirs, ours = AutoConfig.from_pretrained(path.parent, gguf_file=path.name).to_dict(), gguf_config(path)
    assert ours.pop("architectures") == [f"{arch.capitalize()}ForCausalLM"]
    assert ours == {name: theirs[name] for name in ours}
    assert ours["num_hidden_layers"] == 5
    assert ours["pad_token_id"] == 9


def test_an_answer_ends_with_the_text_or_the_turn(header):
    assert end_tokens(header("llama")) == {8, 6}


def test_a_linear_scaling_is_kept(header):
    path = header("llama", rope__scaling__type="linear", rope__scaling__factor=4.0)
    assert gguf_config(path)["rope_parameters"] == {"rope_type": "linear", "rope_theta": 500000.0, "factor": 4.0}


def test_the_file_is_not_converted(header, monkeypatch):
    monkeypatch.setattr(loading, "_convert_gguf", lambda *_: pytest.fail("converted"))
    assert loading.model_config(str(header("llama")), Metrics(None))["max_position_embeddings"] == 4096


@pytest.mark.parametrize(
    ("arch", "keys", "message"),
    [
        ("gemma", {}, "{path} has 'gemma', not llama, qwen2, qwen3"),
        ("llama", {"block_count": None}, "{path}: the key 'llama.block_count' is None, not a number"),
        ("llama", {"context_length": "long"}, "{path}: the key 'llama.context_length' is 'long', not a number"),
        (
            "llama",
            {"rope__scaling__type": "linear"},
            "{path}: the key 'llama.rope.scaling.factor' is None, not a number",
        ),
    ],
)
def test_what_is_refused(header, arch, keys, message):
    path = header(arch, **keys)
    with pytest.raises(EdgeAIError) as caught:
        gguf_config(path)
    assert str(caught.value) == message.format(path=path)
