"""Richness of detail without a reference, after Diffusion-4K (arXiv 2503.18352).

The GLCM score is the mean over pictures of the mean over patches of 64x64 pixels; the compression
ratio is the bytes of raw RGB over those of JPEG files of quality 95 (lower: more detail). The ratio
depends on the JPEG library by about 0.1 %.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from tessella.errors import ShapeError
from tessella.eval.glcm import co_occurrence, entropy, grey_levels, patches, score
from tessella.eval.metrics.base import StreamingMetric

_QUALITY = 95


class TextureResult(NamedTuple):
    """Means over pictures, float64 scalars in bits.

    Args:
        score: the published tables' GLCM score.
        entropy: the textbook's entropy of co-occurrence.
    """

    score: Tensor
    entropy: Tensor


class GLCMScore(StreamingMetric):
    """GLCM score and textbook entropy of pictures of at least 64x64 pixels."""

    higher_is_better = True
    scores: Tensor
    entropies: Tensor
    count: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in ("scores", "entropies", "count"):
            self.add_sum(name)

    def update(self, pixels: Tensor) -> None:
        """Add uint8 pictures ``(B, 3, H, W)``.

        Raises:
            ShapeError: if they are not uint8 or smaller than a patch.
        """
        for picture in pixels:
            matrices = [co_occurrence(p) for row in patches(grey_levels(picture)) for p in row]
            self.scores += float(np.mean([score(m) for m in matrices]))
            self.entropies += float(np.mean([entropy(m) for m in matrices]))
            self.count += 1

    def compute(self) -> TextureResult:
        """Return the means.

        Raises:
            ShapeError: if no pictures were given.
        """
        if not self.count:
            raise ShapeError("no pictures given; expected update() before compute()")
        return TextureResult(self.scores / self.count, self.entropies / self.count)


class CompressionRatio(StreamingMetric):
    """Bytes of raw RGB over bytes of JPEG files of quality 95, over a whole set."""

    higher_is_better = False
    raw_bytes: Tensor
    file_bytes: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_sum("raw_bytes")
        self.add_sum("file_bytes")

    def update(self, pixels: Tensor, file_sizes: Sequence[int] | None = None) -> None:
        """Add pictures.

        Args:
            pixels: uint8 ``(B, 3, H, W)``.
            file_sizes: bytes of their JPEG files, if they exist; else they are written in memory.

        Raises:
            ShapeError: if there are not as many sizes as pictures.
        """
        if file_sizes is None:
            file_sizes = [_jpeg_size(picture) for picture in pixels]
        if len(file_sizes) != len(pixels):
            raise ShapeError(
                f"{len(file_sizes)} sizes given for {len(pixels)} pictures; expected one each"
            )
        self.raw_bytes += pixels.numel()
        self.file_bytes += sum(file_sizes)

    def compute(self) -> Tensor:
        """Return the ratio, a float64 scalar.

        Raises:
            ShapeError: if no pictures were given.
        """
        if not self.file_bytes:
            raise ShapeError("no pictures given; expected update() before compute()")
        return self.raw_bytes / self.file_bytes


def _jpeg_size(picture: Tensor) -> int:
    stream = io.BytesIO()
    array = np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy())
    Image.fromarray(array).save(stream, "JPEG", quality=_QUALITY)
    return len(stream.getvalue())


__all__ = ["CompressionRatio", "GLCMScore", "TextureResult"]
