"""Encoding of frames and label maps. Model updates are in model_push.py.

Shapes: H rows and W columns of a frame.
"""

import io
import math
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from edgeai.core.errors import EdgeAIError

HEADER_BYTES = 64
"""Size of every message's header (ours). It contains the frame's id and capture time (8 + 8), the time left until the
deadline, the score and the threshold (3 x 4), the model version (4), digests of edge model, cloud model and label map
(3 x 8), kind, codec and image scale (3 x 1), a reserved byte, and the length of the body (4)."""

_ZLIB_LEVEL = 6


def encode_image(image: NDArray[np.uint8], *, quality: int, scale: float = 1.0) -> bytes:
    """Compress a frame.

    Args:
        image: RGB frame [H, W, 3].
        quality: JPEG quality, 1 to 95. 90 does not reduce segmentation quality, 75 costs about one point of mIoU.
        scale: Factor applied to height and width first, for links that cannot carry the full frame.

    Returns:
        A JPEG file.
    """
    picture = Image.fromarray(image)
    if scale != 1.0:
        height, width = image.shape[:2]
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = picture.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def decode_image(data: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode a frame, scaled to its original size if it was sent smaller.

    Args:
        data: JPEG file of `encode_image`.
        size: Height and width of the frame.

    Returns:
        RGB frame [H, W, 3].

    Raises:
        EdgeAIError: The bytes are not a complete JPEG file.
    """
    try:
        picture = Image.open(io.BytesIO(data), formats=["JPEG"]).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise EdgeAIError(f"not a complete JPEG image ({len(data)} bytes): {error}") from None
    height, width = size
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def encode_labels(labels: NDArray[np.uint8]) -> bytes:
    """Compress a label map [H, W] losslessly."""
    return zlib.compress(np.ascontiguousarray(labels, dtype=np.uint8).tobytes(), _ZLIB_LEVEL)


def decode_labels(data: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decompress a label map [H, W].

    Raises:
        EdgeAIError: The bytes are damaged, or contain a map of another size.
    """
    return np.frombuffer(_inflate(data, math.prod(size)), np.uint8).reshape(size).copy()


def _inflate(data: bytes, num_bytes: int) -> bytes:
    """Decompress exactly `num_bytes`; at most one byte more is decompressed to detect larger data."""
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(data, num_bytes + 1)
    except zlib.error as error:
        raise EdgeAIError(f"damaged label map ({len(data)} bytes): {error}") from None
    if len(raw) > num_bytes:
        raise EdgeAIError(f"label map of another size: more than {num_bytes} values")
    if not inflater.eof:
        raise EdgeAIError(f"damaged label map ({len(data)} bytes): it ends early")
    if len(raw) < num_bytes:
        raise EdgeAIError(f"label map of another size: {len(raw)} values instead of {num_bytes}")
    return raw
