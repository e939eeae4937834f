"""Codecs: exact round trips where lossless, stated error bounds elsewhere."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from edgeai.collab.wire.codec import (
    HEADER_BYTES,
    decode_image,
    decode_labels,
    encode_image,
    encode_labels,
)
from edgeai.core.errors import EdgeAIError

H, W = 50, 70


def scene():
    """Smooth colors with one edge of brightness, as in photographs."""
    y, x = np.mgrid[0:H, 0:W]
    edge = np.where(x + y > 60, 60, 0)
    red = 20 + 2 * x + edge
    green = 90 + edge
    blue = 100 + 40 * np.sin(y / 9) + edge
    return np.stack([red, green, blue], axis=-1).clip(0, 255).astype(np.uint8)


def psnr_db(a, b):
    error = ((a.astype(float) - b.astype(float)) ** 2).mean()
    return 10 * np.log10(255**2 / error)


def test_image_is_a_jpeg_that_others_open():
    data = encode_image(scene(), quality=90)
    picture = Image.open(io.BytesIO(data))
    assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (W, H))
    assert np.array_equal(np.asarray(picture), decode_image(data, (H, W)))


def test_quality_buys_likeness_with_bytes():
    """Above 35 dB nobody sees the difference; an order of channels mixed up gives below 15 dB."""
    sent = [encode_image(scene(), quality=quality) for quality in (20, 60, 90)]
    likeness = [psnr_db(decode_image(data, (H, W)), scene()) for data in sent]
    assert [len(data) for data in sent] == sorted(len(data) for data in sent)
    assert likeness == sorted(likeness)
    assert likeness[-1] > 35


def test_half_size_comes_back_at_full_size():
    data = encode_image(scene(), quality=90, scale=0.5)
    assert Image.open(io.BytesIO(data)).size == (W // 2, H // 2)
    assert len(data) < len(encode_image(scene(), quality=90))
    back = decode_image(data, (H, W))
    assert back.shape == (H, W, 3)
    assert psnr_db(back, scene()) > 25  # only the edge is blurred


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"x" * 99])
def test_a_damaged_image_is_one_line(damage):
    data = damage(encode_image(scene(), quality=75))
    with pytest.raises(EdgeAIError, match=rf"^not a complete JPEG image \({len(data)} bytes\): .*$"):
        decode_image(data, (H, W))


def test_labels_are_exact_and_small():
    labels = np.zeros((H, W), np.uint8)
    labels[10:30, 20:60] = 7
    labels[0, :] = 255
    data = encode_labels(labels)
    assert np.array_equal(decode_labels(data, (H, W)), labels)
    assert len(data) < H * W / 20
    assert np.array_equal(decode_labels(encode_labels(labels.T), (W, H)), labels.T)  # not contiguous


def test_damaged_or_foreign_labels_are_one_line():
    data = encode_labels(np.zeros((H, W), np.uint8))
    with pytest.raises(EdgeAIError, match=r"^damaged label map \(5 bytes\): it ends early$"):
        decode_labels(data[:5], (H, W))
    with pytest.raises(EdgeAIError, match=r"^damaged label map \(3 bytes\): Error -3"):
        decode_labels(b"abc", (H, W))
    with pytest.raises(EdgeAIError, match=f"^label map of another size: {H * W} values instead of {H * W + H}$"):
        decode_labels(data, (H, W + 1))
    with pytest.raises(EdgeAIError, match=f"^label map of another size: more than {H * W - H} values$"):
        decode_labels(data, (H, W - 1))
    bomb = zlib.compress(bytes(50_000_000), 9)
    with pytest.raises(EdgeAIError, match=r"^label map of another size: more than 4 values$"):
        decode_labels(bomb, (2, 2))


def test_header_size_equals_the_sum_of_its_fields():
    assert HEADER_BYTES == 8 + 8 + 3 * 4 + 4 + 3 * 8 + 3 * 1 + 1 + 4
