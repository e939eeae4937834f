"""Rotary frequencies against transformers, and tables whose values do not depend on their length."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from edgeai.spec.target.native.gguf_file import read_gguf
from edgeai.spec.target.native.rotary import Rotary, RotaryTable, plain


@pytest.mark.parametrize(("factor", "original", "theta"), [(4.0, 128, 10000.0), (32.0, 4096, 5e5), (1.0, 512, 1e6)])
def test_yarn_of_a_file_is_what_transformers_computes(write_gguf, library, factor, original, theta):
    path = write_gguf(
        "F32",
        rope__freq_base=theta,
        rope__scaling__type="yarn",
        rope__scaling__factor=factor,
        rope__scaling__original_context_length=original,
    )
    scaling = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, rope_theta=theta, rope_scaling=scaling)
    theirs, ours = LlamaRotaryEmbedding(config), read_gguf(path, library).rotary
    torch.testing.assert_close(torch.from_numpy(ours.inv_freq), theirs.inv_freq, rtol=1e-6, atol=0)
    assert ours.attention_factor == pytest.approx(theirs.attention_scaling)


def test_linear_scaling_and_divisors_of_a_file(write_gguf, library):
    divisors = np.linspace(1, 8, 8, dtype=np.float32)
    linear = read_gguf(write_gguf("F32", rope__scaling__type="linear", rope__scaling__factor=4.0), library)
    divided = read_gguf(write_gguf("F32", extra={"rope_freqs.weight": divisors}), library)
    assert np.array_equal(linear.rotary.inv_freq, plain(10000.0, 16) / np.float32(4))
    assert np.array_equal(divided.rotary.inv_freq, plain(10000.0, 16) / divisors)


def test_tables_grow_without_changing():
    rotary = Rotary(plain(10000.0, 32), 1.25)
    grown, whole = RotaryTable(rotary), RotaryTable(rotary)
    assert not grown.reserve(1000)
    assert [grown.reserve(size) for size in (1500, 1600, 5000)] == [True, False, True]
    whole.reserve(6000)
    angles = np.arange(5000, dtype=np.float32)[:, None] * rotary.inv_freq
    for short, long, function in zip(grown.current, whole.current, (np.cos, np.sin), strict=True):
        assert np.array_equal(short[:5000], long[:5000])
        assert np.allclose(short[:5000], 1.25 * function(angles.astype(np.float64)), atol=1e-6)
