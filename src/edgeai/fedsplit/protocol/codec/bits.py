"""Bit packing: codes of any width without gaps.

Code i occupies bits i*w to i*w + w - 1 of the stream, least significant bit first; the first bit of a byte is its
least significant one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from edgeai.fedsplit.protocol.codec.sizes import packed_bytes


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """Pack integer codes.

    Args:
        codes: Integers in 0 … 2**bits - 1, of any shape, n in total.
        bits: Width of a code, 0 … 31. Codes of width 0 are all 0 and take no space.

    Returns:
        uint8 [ceil(n * bits / 8)].
    """
    flat = codes.reshape(-1)
    if bits == 8:
        return flat.to(torch.uint8)
    num_codes, num_bytes = flat.numel(), packed_bytes(flat.numel(), bits)
    if num_bytes == 0:
        return flat.new_zeros(0, dtype=torch.uint8)
    group, width = _group(bits)
    num_groups = -(-num_codes // group)
    padded = flat.new_zeros(num_groups * group, dtype=torch.int32)
    padded[:num_codes] = flat
    columns = padded.view(num_groups, group).t().contiguous()  # contiguous per position: several times faster
    stream = columns.new_zeros(width, num_groups)
    for place, byte, shift in _overlaps(bits, group):
        code = columns[place]
        stream[byte] |= code >> shift if shift >= 0 else code << -shift
    return (stream & 255).to(torch.uint8).t().reshape(-1)[:num_bytes].clone()


def unpack_bits(stream: Tensor, bits: int, num_codes: int) -> Tensor:
    """Unpack codes that `pack_bits` packed.

    Args:
        stream: uint8 [ceil(num_codes * bits / 8)].
        bits: Width of a code.
        num_codes: Number of codes.

    Returns:
        int32 [num_codes].
    """
    if bits == 8:
        return stream.to(torch.int32)
    if bits == 0:
        return stream.new_zeros(num_codes, dtype=torch.int32)
    group, width = _group(bits)
    num_groups = -(-num_codes // group)
    padded = stream.new_zeros(num_groups * width, dtype=torch.int32)
    padded[: stream.numel()] = stream
    columns = padded.view(num_groups, width).t().contiguous()
    codes = columns.new_zeros(group, num_groups)
    for place, byte, shift in _overlaps(bits, group):
        codes[place] |= columns[byte] << shift if shift >= 0 else columns[byte] >> -shift
    return (codes & ((1 << bits) - 1)).t().reshape(-1)[:num_codes]


def _group(bits: int) -> tuple[int, int]:
    """Return the smallest number of codes that fill whole bytes, and those bytes."""
    group = 8 // math.gcd(8, bits)
    return group, group * bits // 8


def _overlaps(bits: int, group: int) -> Iterator[tuple[int, int, int]]:
    """Yield the overlaps of codes and bytes in a group: number of the code, byte, code bit at the byte's first bit."""
    for place in range(group):
        first, last = place * bits, place * bits + bits - 1
        for byte in range(first // 8, last // 8 + 1):
            yield place, byte, 8 * byte - first
