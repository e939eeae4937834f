"""Bit packing against NumPy's own."""

import numpy as np
import pytest
import torch

from edgeai.fedsplit.protocol.codec.bits import pack_bits, unpack_bits


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 16, 17, 24, 31])
@pytest.mark.parametrize("num_codes", [1, 7, 8, 101])
def test_stream_is_what_numpy_packs_and_comes_back(bits: int, num_codes: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 2**bits, num_codes)
    codes[0] = 2**bits - 1
    expanded = (codes[:, None] >> np.arange(bits)) & 1  # each code's bits, the least significant first
    expected = np.packbits(expanded.astype(np.uint8).ravel(), bitorder="little")
    stream = pack_bits(torch.from_numpy(codes), bits)
    assert stream.dtype == torch.uint8
    assert stream.numpy().tolist() == expected.tolist()
    assert unpack_bits(stream, bits, num_codes).tolist() == codes.tolist()


def test_a_single_choice_takes_no_room() -> None:
    stream = pack_bits(torch.zeros(5, dtype=torch.int64), 0)
    assert stream.numel() == 0
    assert unpack_bits(stream, 0, 5).tolist() == [0, 0, 0, 0, 0]
