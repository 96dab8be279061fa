"""JPEG at a given size, the yardstick of comparisons: optimized Huffman tables, 4:2:0, baseline."""

from __future__ import annotations

import io

from PIL import Image

LOWEST_QUALITY = 1
HIGHEST_QUALITY = 100


def encode_jpeg(image: Image.Image, quality: int) -> bytes:
    """Return a baseline JPEG file: optimized tables, chroma halved both ways.

    Args:
        image: mode RGB.
        quality: 1 to 100, as libjpeg means it.
    """
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=quality, optimize=True, subsampling="4:2:0")
    return stream.getvalue()


def encode_at_most(image: Image.Image, num_bytes: int) -> bytes:
    """Return the JPEG of the highest quality that fits into ``num_bytes``.

    Where even quality 1 does not fit, its file is returned: compare the length before you call the
    sizes equal.

    Args:
        image: mode RGB.
        num_bytes: size of the file that is to be matched.
    """
    low, high = LOWEST_QUALITY, HIGHEST_QUALITY
    best = encode_jpeg(image, low)
    while low < high:  # the file of quality ``low`` fits, or is the smallest there is
        middle = (low + high + 1) // 2
        data = encode_jpeg(image, middle)
        if len(data) <= num_bytes:
            low, best = middle, data
        else:
            high = middle - 1
    return best


__all__ = ["encode_at_most", "encode_jpeg"]
