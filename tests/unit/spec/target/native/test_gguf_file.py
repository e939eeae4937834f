"""GGUF files as packed models: values as in the file, and one clear error for every file that cannot be run."""

import ctypes
import random

import gguf
import numpy as np
import pytest
import torch
from gguf import quants

from edgeai.core.errors import EdgeAIError
from edgeai.spec.target.native import gguf_file
from edgeai.spec.target.native.gguf_file import MAX_POSITIONS, read_gguf
from edgeai.spec.target.native.gguf_header import read_header
from edgeai.spec.target.native.library import Unavailable
from edgeai.spec.tiny import HIDDEN


def refused(path, library, error):
    with pytest.raises(error) as caught:
        read_gguf(path, library)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_embeddings_are_what_gguf_dequantizes(write_gguf, library, kind):
    path = write_gguf(kind)
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    model = read_gguf(path, library)
    embedding, output = (
        quants.dequantize(found[f"{name}.weight"].data, found[f"{name}.weight"].tensor_type)
        for name in ("token_embd", "output")
    )
    ids = np.array([0, 257, 3, 3, 16, 15])
    assert np.array_equal(model.embed(ids), embedding[ids])
    assert np.array_equal(model.embedding(torch.float32).numpy(), embedding)
    assert np.array_equal(model.lm_head(torch.float32).numpy(), output)
    assert not model.is_tied


def test_a_file_without_output_matrix_shares_the_embedding(write_gguf, library):
    model = read_gguf(write_gguf("Q8_0", drop=("output.weight",)), library)
    assert model.is_tied
    assert torch.equal(model.lm_head(torch.float32), model.embedding(torch.float32))


def test_a_huge_context_allocates_nothing(write_gguf, library):
    model = read_gguf(write_gguf("Q8_0", context_length=(1 << 32) - 1), library)
    assert model.shape.max_positions == MAX_POSITIONS
    model.reserve_positions(5000)
    assert sum(len(table[0]) for table in model._table._kept) < 10_000


def test_a_window_limits_the_context(write_gguf, library):
    assert read_gguf(write_gguf("Q8_0", attention__sliding_window=128), library).shape.max_positions == 128


BAD_KEYS = {
    "block_count": (0, 1 << 31, 7.0, "eight", [1, 2]),
    "embedding_length": (0, 1 << 31),
    "feed_forward_length": (0, 1 << 31),
    "attention__head_count": (0, 1 << 31),
    "attention__head_count_kv": (0, [2, 2]),
    "attention__key_length": (0, 1 << 31),
    "context_length": (0, 512.0),
    "attention__layer_norm_rms_epsilon": (float("nan"), -1e-5, 0.0, float("inf"), "1e-5"),
    "rope__freq_base": (float("nan"), -1.0, 0.0, [1.0]),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD_KEYS.items() for value in values])
def test_wrong_hyperparameters_are_named(write_gguf, library, name, value):
    message = refused(write_gguf("F32", **{name: value}), library, EdgeAIError)
    assert f"the key 'llama.{name.replace('__', '.')}' is " in message
    assert "positive number" in message or "not a number from 1 to" in message


@pytest.mark.parametrize("name", ["block_count", "context_length", "attention__layer_norm_rms_epsilon"])
def test_missing_keys_are_named(write_gguf, library, name):
    message = refused(write_gguf("F32", **{name: None}), library, EdgeAIError)
    assert f"has no key 'llama.{name.replace('__', '.')}'" in message


ODD = np.zeros((3, 32), np.float32)
BAD_TENSORS = [
    ({"extra": {"blk.0.attn_q.weight": ODD}}, "'blk.0.attn_q.weight' has the shape (3, 32), not (64, 64)"),
    ({"extra": {"blk.0.attn_norm.weight": np.ones(65, np.float32)}}, "has the shape (65,), not (64,)"),
    ({"extra": {"output_norm.weight": np.full(64, np.nan, np.float32)}}, "'output_norm.weight' has values that"),
    ({"extra": {"token_embd.weight": np.ones(64, np.float32)}}, "'token_embd.weight' has the shape (64,), not (0, 64)"),
    ({"extra": {"output.weight": ODD}}, "'output.weight' has the shape (3, 32), not (258, 64)"),
    ({"extra": {"rope_freqs.weight": np.ones(9, np.float32)}}, "'rope_freqs.weight' has the shape (9,), not (8,)"),
    ({"extra": {"rope_freqs.weight": np.zeros(8, np.float32)}}, "'rope_freqs.weight' has values that are not positive"),
    ({"drop": ("blk.7.ffn_norm.weight",)}, "has no tensor 'blk.7.ffn_norm.weight'"),
    ({"block_count": 9}, "has no tensor 'blk.8.attn_norm.weight'"),
    ({"attention__head_count_kv": 4}, "'blk.0.attn_k.weight' has the shape (32, 64), not (64, 64)"),
]


@pytest.mark.parametrize(("change", "message"), BAD_TENSORS)
def test_wrong_tensors_are_named(write_gguf, library, change, message):
    assert message in refused(write_gguf("F32", **change), library, EdgeAIError)


UNSUPPORTED = [
    ({"arch": "gemma"}, "has the architecture 'gemma', not llama, qwen2, qwen3"),
    ({"rope__scaling__type": "longrope"}, "its rotary scaling has the type 'longrope'"),
    ({"expert_count": 8}, "it has the key 'llama.expert_count'"),
    ({"rope__dimension_count": 8}, "its rope.dimension_count is not the width 16 of its heads"),
    ({"attention__value_length": 8}, "its attention.value_length is not the width 16 of its heads"),
    ({"attention__head_count_kv": 3}, "it has 4 query heads on 3 key heads"),
    ({"attention__key_length": 24}, "it has heads of width 24"),
    ({"extra": {"blk.0.post_norm.weight": np.ones(64, np.float32)}}, "unsupported tensors: 'blk.0.post_norm.weight'"),
    ({"block_count": 7}, "it has unsupported tensors: 'blk.7.attn_k.weight', "),
]


@pytest.mark.parametrize(("change", "message"), UNSUPPORTED)
def test_sound_files_that_are_not_supported_say_why(write_gguf, library, change, message):
    assert message in refused(write_gguf("F32", **change), library, Unavailable)


@pytest.mark.parametrize(("number", "name"), [(16, "IQ2_XXS"), (4711, "number 4711"), (9, "Q8_1")])
def test_unsupported_tensor_types_are_named(write_gguf, library, tmp_path, number, name):
    data = bytearray(write_gguf("F32").read_bytes())
    at = data.index(b"blk.0.attn_q.weight") + len("blk.0.attn_q.weight") + 4 + 2 * 8
    data[at : at + 4] = number.to_bytes(4, "little")
    (tmp_path / "a.gguf").write_bytes(data)
    message = refused(tmp_path / "a.gguf", library, Unavailable)
    assert message == f"the tensor 'blk.0.attn_q.weight' has the type {name}"


def outcome(path, library):
    """What came of a damaged file: it loads, or one line says why not."""
    try:
        read_gguf(path, library)
    except (EdgeAIError, Unavailable) as error:
        return "refused" if "\n" not in str(error) else "refused in several lines"
    return "loaded"


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_is_refused_or_harmless(write_gguf, library, tmp_path, seed):
    """Flips in the header, where they hurt, and truncations; weights may hold any bytes."""
    rng, path = random.Random(seed), tmp_path / "a.gguf"
    whole = write_gguf("Q4_1", tokens=["a", "bc"] * 50).read_bytes()
    header_bytes = gguf.GGUFReader(write_gguf("Q4_1", tokens=["a", "bc"] * 50)).data_offset
    found = []
    for _ in range(100):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(header_bytes)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        if rng.random() < 0.2:
            data = data[: rng.randrange(len(data))]
        path.write_bytes(data)
        found.append(outcome(path, library))
    assert set(found) <= {"loaded", "refused"}
    assert found.count("refused") > 50


def test_every_truncation_of_the_header_is_refused(write_gguf, library, tmp_path):
    whole, path = write_gguf("F32").read_bytes(), tmp_path / "a.gguf"
    for size in (*range(0, 400, 7), 4000, len(whole) - 300_000, len(whole) - 100):
        path.write_bytes(whole[:size])
        assert outcome(path, library) == "refused"


def test_a_file_cut_while_it_is_read_is_an_error(write_gguf, library, monkeypatch):
    path = write_gguf("Q8_0")

    def cut(path):
        header = read_header(path)
        path.write_bytes(path.read_bytes()[:-5000])
        return header

    monkeypatch.setattr(gguf_file, "read_header", cut)
    assert "ended while the tensor" in refused(path, library, EdgeAIError)


def test_biases_are_packed(write_gguf, library):
    bias = np.arange(HIDDEN, dtype=np.float32)
    model = read_gguf(write_gguf("F32", arch="qwen2", extra={"blk.0.attn_q.bias": bias}), library)
    found = np.ctypeslib.as_array((ctypes.c_float * HIDDEN).from_address(model.structure.layers[0].q.bias))
    assert np.array_equal(found, bias)
