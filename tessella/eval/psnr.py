"""Peak signal-to-noise ratio on 8-bit pixels.

``psnr = 10 log10(255^2 / mean (x - y)^2)``, the mean over all channels and pixels of a picture.
A data set's value is the mean of its pictures' values (not the ratio of the pooled error, which
differs by a good part of a decibel).
"""

from __future__ import annotations

import torch
from torch import Tensor

from tessella.eval.pixels import check_pair

CAP = 100.0  # decibels that identical pictures count in averages


def psnr(images: Tensor, references: Tensor) -> Tensor:
    """Return the PSNR of each picture in decibels, ``(B,)`` float64; ``inf`` where identical.

    Args:
        images: uint8 pixels ``(B, C, H, W)``.
        references: the same shape.

    Raises:
        ShapeError: if either is not uint8 or the shapes differ.

    Example:
        >>> black = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
        >>> round(psnr(black, black + 16).item(), 2)
        24.05
    """
    check_pair(images, references)
    error = (images.to(torch.int32) - references.to(torch.int32)).square()
    mse = error.double().mean(dim=(1, 2, 3))
    return 10 * torch.log10(255**2 / mse)


def mean_psnr(values: Tensor) -> float:
    """Average the PSNR of pictures; identical pictures count as 100 dB."""
    return float(values.double().clamp(max=CAP).mean())


__all__ = ["CAP", "mean_psnr", "psnr"]
