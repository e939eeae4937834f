"""Bytes against hand formulas, and analytic bytes against what is packed."""

import pytest
import torch

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.codec import (
    CodecConfig,
    Direction,
    FedliteConfig,
    Fp16Config,
    NoCodec,
    RandtopkConfig,
    TopkConfig,
    UniformConfig,
)
from edgeai.fedsplit.protocol.codec.build import build_codec
from edgeai.fedsplit.protocol.codec.sizes import check_codec, codec_bytes, cut_bytes

CODECS: list[Direction] = [
    Fp16Config(),
    UniformConfig(bits=5),
    UniformConfig(bits=16, per="channel"),
    TopkConfig(frac=0.17),
    TopkConfig(k=3),
    RandtopkConfig(k=5, alpha=0.5),
    FedliteConfig(num_subvectors=6, groups=3, centroids=5),
    FedliteConfig(num_subvectors=4, centroids=300),
]


@pytest.mark.parametrize("cfg", CODECS, ids=str)
@pytest.mark.parametrize("shape", [(7, 12), (1, 24), (5, 3, 4), (3, 2, 3, 6)])
def test_analytic_bytes_are_the_packed_ones(cfg: Direction, shape: tuple[int, ...]) -> None:
    codec = build_codec(cfg)
    assert codec is not None
    packed = codec.pack(torch.randn(shape), torch.Generator())
    tensors = [packed.payload, *packed.side.values()]
    assert codec_bytes(cfg, shape) == sum(tensor.nbytes for tensor in tensors) == packed.num_bytes


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        (NoCodec(), 64 * 1176 * 4),
        (Fp16Config(), 64 * 1176 * 2),
        (UniformConfig(bits=8), 64 * 1176 + 8),
        (UniformConfig(bits=4), 64 * 1176 // 2 + 8),
        (UniformConfig(bits=3, per="channel"), 64 * 1176 * 3 // 8 + 8 * 6),
        (TopkConfig(k=118), 64 * 118 * 4 + 64 * 118 * 11 // 8),  # 2^10 < 1176 <= 2^11
        (TopkConfig(frac=0.1), 64 * 118 * 4 + 64 * 118 * 11 // 8),  # 117.6 values
        (FedliteConfig(num_subvectors=147, groups=1, centroids=16), 16 * 8 * 4 + 64 * 147 * 4 // 8),
        (FedliteConfig(num_subvectors=147, groups=3, centroids=64), 3 * 64 * 8 * 4 + 64 * 147 * 6 // 8),
    ],
    ids=str,
)
def test_bytes_of_lenets_first_cut_by_hand(cfg: Direction, expected: int) -> None:
    assert codec_bytes(cfg, (64, 6, 14, 14)) == expected


def test_what_is_not_packed_costs_four_bytes_a_value() -> None:
    assert codec_bytes(UniformConfig(bits=1), (7,)) == 28
    assert codec_bytes(UniformConfig(bits=1), (0, 7)) == 0


def test_gradient_of_kept_values_comes_down_without_indices() -> None:
    topk = TopkConfig(k=118)
    up = 64 * 118 * 4 + 64 * 118 * 11 // 8
    shape = (64, 1176)
    assert cut_bytes(CodecConfig(up=topk), shape) == (up, 64 * 118 * 4)
    assert cut_bytes(CodecConfig(up=topk, down=TopkConfig(k=5)), shape) == (up, 64 * 118 * 4)
    assert cut_bytes(CodecConfig(up=topk, down=Fp16Config()), shape) == (up, 64 * 118 * 2)
    assert cut_bytes(CodecConfig(up=topk, down=UniformConfig(bits=8)), shape) == (up, 64 * 118 + 8)
    assert cut_bytes(CodecConfig(down=TopkConfig(k=118)), shape) == (64 * 1176 * 4, up)


def test_a_7b_cut_needs_no_tensor() -> None:
    assert codec_bytes(UniformConfig(bits=8), (8, 2048, 4096)) == 8 * 2048 * 4096 + 8


def _refusal(cfg: CodecConfig, shape: tuple[int, ...]) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        check_codec(cfg, shape)
    return caught.value.message, caught.value.hint


def test_refuses_more_values_than_there_are() -> None:
    assert _refusal(CodecConfig(up=TopkConfig(k=200)), (6, 5, 5)) == (
        "codec.up: topk keeps k = 200 values of a sample, but only 150 cross the cut",
        "set codec.up.k to 150 or less, or leave it out and set codec.up.frac",
    )


def test_refuses_pieces_of_unequal_length() -> None:
    assert _refusal(CodecConfig(down=FedliteConfig(num_subvectors=100)), (1176,)) == (
        "codec.down: fedlite cannot split the 1176 values of a sample into num_subvectors = 100 equal pieces",
        "the nearest codec.down.num_subvectors that fit: 98, 147",
    )
    assert _refusal(CodecConfig(up=FedliteConfig(num_subvectors=2000)), (1176,))[1] == (
        "the nearest codec.up.num_subvectors that fit: 1176"
    )


def test_refuses_groups_of_unequal_size() -> None:
    assert _refusal(CodecConfig(up=FedliteConfig(num_subvectors=147, groups=4)), (1176,)) == (
        "codec.up: fedlite cannot share 147 sub-vectors evenly among groups = 4",
        "the nearest codec.up.groups that fit: 3, 7",
    )


def test_accepts_what_fits() -> None:
    check_codec(CodecConfig(up=TopkConfig(k=150), down=Fp16Config()), (6, 5, 5))
    check_codec(CodecConfig(up=FedliteConfig(num_subvectors=147, groups=7)), (1176,))
