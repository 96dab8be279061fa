"""Streaming rates: bits per pixel over a set, and accuracy per token."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from tessella.errors import ShapeError
from tessella.eval.metrics.base import StreamingMetric
from tessella.eval.rate import bits_per_pixel, token_density


class RateResult(NamedTuple):
    """Float64 scalars.

    Args:
        mean: of the pictures' bits per pixel.
        pooled: all bits over all pixels.
    """

    mean: Tensor
    pooled: Tensor


class BitsPerPixel(StreamingMetric):
    """Bits per pixel of whole files, headers included, for pictures before padding."""

    higher_is_better = False
    rates: Tensor
    count: Tensor
    num_bytes: Tensor
    num_pixels: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in ("rates", "count", "num_bytes", "num_pixels"):
            self.add_sum(name)

    def update(self, num_bytes: int, height: int, width: int) -> None:
        """Add a picture's file.

        Raises:
            ShapeError: if the picture has no pixels.
        """
        self.rates += bits_per_pixel(num_bytes, height, width)
        self.count += 1
        self.num_bytes += num_bytes
        self.num_pixels += height * width

    def compute(self) -> RateResult:
        """Return both means.

        Raises:
            ShapeError: if no pictures were given.
        """
        if not self.count:
            raise ShapeError("no pictures given; expected update() before compute()")
        return RateResult(self.rates / self.count, 8 * self.num_bytes / self.num_pixels)


class TokenDensity(StreamingMetric):
    """TokDense (VQToken, arXiv 2503.16980): percent of right answers a kept token contributes."""

    higher_is_better = True
    right: Tensor
    count: Tensor
    kept: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in ("right", "count", "kept"):
            self.add_sum(name)

    def update(self, correct: Tensor, num_tokens: Tensor) -> None:
        """Add samples.

        Args:
            correct: ``(B,)``, whether each was answered rightly (or a share in [0, 1]).
            num_tokens: ``(B,)``, tokens kept for each.

        Raises:
            ShapeError: if the shapes differ.
        """
        if correct.shape != num_tokens.shape or correct.ndim != 1:
            raise ShapeError(
                f"correct {tuple(correct.shape)} and num_tokens {tuple(num_tokens.shape)} given; "
                "expected one each a sample"
            )
        self.right += correct.double().sum()
        self.count += len(correct)
        self.kept += num_tokens.double().sum()

    def compute(self) -> Tensor:
        """Return percent of accuracy per token, a float64 scalar.

        Raises:
            ShapeError: if no samples, or no tokens, were given.
        """
        if not self.count:
            raise ShapeError("no samples given; expected update() before compute()")
        accuracy, kept = 100 * self.right / self.count, self.kept / self.count
        return self.right.new_tensor(token_density(float(accuracy), float(kept)))


__all__ = ["BitsPerPixel", "RateResult", "TokenDensity"]
