"""Half precision."""

import torch

from edgeai.fedsplit.protocol.codec.fp16 import Fp16


def test_rounds_to_half_precision() -> None:
    x = torch.tensor([[1.0, 1.0 + 2**-12, 0.5, -3.25]])
    packed = Fp16().pack(x, torch.Generator())
    assert packed.num_bytes == 8
    arrived = Fp16().unpack(packed)
    assert arrived.dtype == torch.float32
    assert arrived.tolist() == [[1.0, 1.0, 0.5, -3.25]]  # 1 + 2^-12 lies between 1 and 1 + 2^-10
