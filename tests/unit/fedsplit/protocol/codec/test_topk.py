"""Top-k against a sort."""

import torch

from edgeai.fedsplit.config.codec import TopkConfig
from edgeai.fedsplit.protocol.codec.topk import TopK


def test_keeps_the_largest_by_magnitude() -> None:
    x = torch.randn(5, 3, 7, generator=torch.Generator().manual_seed(0))
    codec = TopK(TopkConfig(k=4))
    arrived = codec.unpack(codec.pack(x, torch.Generator()))
    expected = torch.zeros(5, 21)
    for row, values in enumerate(x.reshape(5, 21).tolist()):
        for place in sorted(range(21), key=lambda i: -abs(values[i]))[:4]:
            expected[row, place] = values[place]
    assert torch.equal(arrived, expected.view(5, 3, 7))


def test_all_values_come_back_exactly() -> None:
    x = torch.randn(3, 9, generator=torch.Generator().manual_seed(1))
    codec = TopK(TopkConfig(frac=1.0))
    assert torch.equal(codec.unpack(codec.pack(x, torch.Generator())), x)


def test_a_single_value_needs_no_index() -> None:
    codec = TopK(TopkConfig())
    packed = codec.pack(torch.tensor([[2.0], [3.0]]), torch.Generator())
    assert packed.num_bytes == 8
    assert codec.unpack(packed).tolist() == [[2.0], [3.0]]
