"""Size of encoded tensors and fit of a codec, from shapes alone.

Legend: b samples, q values per sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.codec import (
    CodecConfig,
    Direction,
    FedliteConfig,
    Fp16Config,
    RandtopkConfig,
    TopkConfig,
    UniformConfig,
    is_sparse,
)

Way = Literal["up", "down"]


def check_codec(cfg: CodecConfig, shape: Sequence[int]) -> None:
    """Reject codecs that cannot encode samples of this shape.

    Args:
        cfg: Codecs of both directions.
        shape: Shape of one sample at the cut, without the batch dimension.

    Raises:
        UsageError: A codec does not fit; the hint has values that fit.
    """
    num_values = math.prod(shape)
    check_direction(cfg.up, num_values, "up")
    check_direction(cfg.down, num_values, "down")


def check_direction(cfg: Direction, num_values: int, way: Way) -> None:
    """Reject a codec of one direction that cannot encode samples of `num_values` values.

    Raises:
        UsageError: The codec does not fit; the hint has values that fit.
    """
    if isinstance(cfg, TopkConfig | RandtopkConfig) and cfg.k is not None and cfg.k > num_values:
        raise UsageError(
            f"codec.{way}: {cfg.kind} keeps k = {cfg.k} values of a sample, but only {num_values} cross the cut",
            hint=f"set codec.{way}.k to {num_values} or less, or leave it out and set codec.{way}.frac",
        )
    if not isinstance(cfg, FedliteConfig):
        return
    if num_values % cfg.num_subvectors:
        fitting = ", ".join(str(count) for count in _nearest_divisors(num_values, cfg.num_subvectors))
        raise UsageError(
            f"codec.{way}: fedlite cannot split the {num_values} values of a sample into "
            f"num_subvectors = {cfg.num_subvectors} equal pieces",
            hint=f"the nearest codec.{way}.num_subvectors that fit: {fitting}",
        )
    if cfg.num_subvectors % cfg.groups:
        fitting = ", ".join(str(count) for count in _nearest_divisors(cfg.num_subvectors, cfg.groups))
        raise UsageError(
            f"codec.{way}: fedlite cannot share {cfg.num_subvectors} sub-vectors evenly among groups = {cfg.groups}",
            hint=f"the nearest codec.{way}.groups that fit: {fitting}",
        )


def cut_bytes(cfg: CodecConfig, shape: Sequence[int]) -> tuple[int, int]:
    """Return the bytes of one exchange: activations up, and their gradient down.

    Args:
        cfg: Codecs of both directions.
        shape: Shape of the batch at the cut, [b, ...].

    Returns:
        Bytes up and bytes down, each with side information.
    """
    up_bytes = codec_bytes(cfg.up, shape)
    if not isinstance(cfg.up, TopkConfig | RandtopkConfig) or not _is_coded(shape):
        return up_bytes, codec_bytes(cfg.down, shape)
    kept = (shape[0], num_kept(cfg.up, math.prod(shape[1:])))
    if is_sparse(cfg.down):
        return up_bytes, 4 * math.prod(kept)
    return up_bytes, codec_bytes(cfg.down, kept)


def codec_bytes(cfg: Direction, shape: Sequence[int]) -> int:
    """Return the bytes of an encoded float32 tensor of shape [b, ...]: payload and side information."""
    numel = math.prod(shape)
    if not _is_coded(shape):
        return 4 * numel
    num_samples, num_values = shape[0], numel // shape[0]
    if isinstance(cfg, Fp16Config):
        return 2 * numel
    if isinstance(cfg, UniformConfig):
        return packed_bytes(numel, cfg.bits) + 8 * (shape[1] if cfg.per == "channel" else 1)
    if isinstance(cfg, TopkConfig | RandtopkConfig):
        num_sent = num_samples * num_kept(cfg, num_values)
        return 4 * num_sent + packed_bytes(num_sent, index_bits(num_values))
    if isinstance(cfg, FedliteConfig):
        num_codes = num_samples * cfg.num_subvectors
        entries = min(cfg.centroids, num_codes // cfg.groups)
        codebooks = cfg.groups * entries * (num_values // cfg.num_subvectors) * 4
        return codebooks + packed_bytes(num_codes, index_bits(entries))
    return 4 * numel


def num_kept(cfg: TopkConfig | RandtopkConfig, num_values: int) -> int:
    """Return the number of values per sample that top-k keeps."""
    return cfg.k if cfg.k is not None else max(1, math.floor(cfg.frac * num_values + 0.5))


def index_bits(num_choices: int) -> int:
    """Return the bits of an index among `num_choices`: ceil(log2), 0 for a single choice."""
    return (num_choices - 1).bit_length()


def packed_bytes(num_codes: int, bits: int) -> int:
    """Return the bytes of bit-packed codes."""
    return -(-num_codes * bits // 8)


def _is_coded(shape: Sequence[int]) -> bool:
    return len(shape) >= 2 and math.prod(shape) > 0


def _nearest_divisors(number: int, wanted: int) -> list[int]:
    """Return the divisors of `number` just below and just above `wanted`."""
    divisors = sorted({d for i in range(1, math.isqrt(number) + 1) if number % i == 0 for d in (i, number // i)})
    below = [d for d in divisors if d < wanted][-1:]
    return below + [d for d in divisors if d > wanted][:1]
