"""Quantization to groups of 32: the formats of gguf, never worse than from smallest to largest value."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from edgeai.spec.target.native.quantize import quantize

KINDS = {"q8": GGMLQuantizationType.Q8_0, "q4": GGMLQuantizationType.Q4_1}


def errors(values, raw, kind):
    return ((quants.dequantize(raw, kind) - values) ** 2).reshape(len(values), -1, 32).sum(-1)


@pytest.mark.parametrize("seed", range(3))
def test_q4_is_never_worse_than_smallest_to_largest_and_better_on_average(library, seed):
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal((64, 256)) * rng.uniform(1e-4, 10, (64, 1))).astype(np.float32)
    ours = errors(values, quantize(values, "q4", library, threads=2), KINDS["q4"])
    theirs = errors(values, quants.quantize(values, KINDS["q4"]), KINDS["q4"])
    assert (ours <= theirs * 1.02 + 1e-12).all()  # gguf rounds values with the unrounded scale
    assert ours.sum() < 0.9 * theirs.sum()


def test_q8_is_what_gguf_writes_up_to_the_rounding_of_ties(library):
    values = np.random.default_rng(0).standard_normal((16, 128)).astype(np.float32)
    ours = errors(values, quantize(values, "q8", library, threads=1), KINDS["q8"])
    theirs = errors(values, quants.quantize(values, KINDS["q8"]), KINDS["q8"])
    assert (ours <= theirs * 1.02).all()


@pytest.mark.parametrize("bits", KINDS)
def test_constants_and_extremes(library, bits):
    rows = [np.zeros(32), np.full(32, 0.5), np.full(32, -3.0), np.full(32, 1e-9), np.r_[np.zeros(31), 60000.0]]
    values = np.array(rows, dtype=np.float32)
    back = quants.dequantize(quantize(values, bits, library, threads=1), KINDS[bits])
    steps = np.ptp(values, axis=1) / 15 if bits == "q4" else np.abs(values).max(1) / 127
    assert (np.abs(back - values) <= 0.55 * steps[:, None] + 1e-3 * np.abs(values) + 6e-8).all()


@pytest.mark.parametrize("bits", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_values_that_cannot_be_stored_are_refused(library, bits, value):
    values = np.ones((4, 64), np.float32)
    values[2, 40] = value
    with pytest.raises(ValueError, match="values that are not finite"):
        quantize(values, bits, library, threads=2)


def test_halves_are_rounded_like_numpy(library):
    """The scale of a group of one value and zeros is that value / 127 in half precision."""
    tops = np.r_[np.geomspace(1e-6, 65504 * 120, 500), 127 * np.array([1.00048828125, 1.00146484375, 2**-24, 2**-25])]
    values = np.zeros((len(tops), 32), np.float32)
    values[:, 7] = tops
    raw = quantize(values, "q8", library, threads=1)
    wanted = (values.max(1) / np.float32(127)).astype(np.float16)
    assert np.array_equal(raw[:, :2].copy().view(np.float16)[:, 0], wanted)
