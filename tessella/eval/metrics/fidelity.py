"""Means over pictures of distances between a picture and its reconstruction.

Inputs are 8-bit pixels, as a picture file holds them; LPIPS and DISTS take floats in [-1, 1] too,
for tables that were made without rounding. The mean is over pictures, never over pooled errors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from torch import Tensor

from tessella.errors import ShapeError
from tessella.eval.dists import DISTS
from tessella.eval.metrics.base import StreamingMetric
from tessella.eval.perceptual import LPIPS, Network
from tessella.eval.pixels import from_uint8
from tessella.eval.psnr import CAP, psnr
from tessella.eval.ssim import ms_ssim, ssim


class MeanOverPictures(StreamingMetric, ABC):
    """Mean of a value that each pair of pictures has; subclasses say which."""

    total: Tensor
    count: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_sum("total")
        self.add_sum("count")

    def update(self, images: Tensor, references: Tensor) -> None:
        """Add a batch of reconstructions ``(B, 3, H, W)`` and their originals."""
        values = self.measure(images, references)
        self.total += values.double().sum()
        self.count += len(values)

    def compute(self) -> Tensor:
        """Return the mean, a float64 scalar.

        Raises:
            ShapeError: if no pictures were given.
        """
        if not self.count:
            raise ShapeError("no pictures given; expected update() before compute()")
        return self.total / self.count

    @abstractmethod
    def measure(self, images: Tensor, references: Tensor) -> Tensor:
        """Return the value of each pair, ``(B,)``."""


class MeanPSNR(MeanOverPictures):
    """Decibels; identical pictures count as 100 dB."""

    higher_is_better = True

    def measure(self, images: Tensor, references: Tensor) -> Tensor:
        """Return the PSNR of each pair of uint8 pictures."""
        return psnr(images, references).clamp(max=CAP)


class MeanSSIM(MeanOverPictures):
    """Structural similarity, at most 1; sides of at least 11."""

    higher_is_better = True

    def measure(self, images: Tensor, references: Tensor) -> Tensor:
        """Return the SSIM of each pair of uint8 pictures."""
        return ssim(images, references)


class MeanMSSSIM(MeanOverPictures):
    """Multi-scale structural similarity, at most 1; sides of at least 161."""

    higher_is_better = True

    def measure(self, images: Tensor, references: Tensor) -> Tensor:
        """Return the MS-SSIM of each pair of uint8 pictures."""
        return ms_ssim(images, references)


class MeanLPIPS(MeanOverPictures):
    """LPIPS, 0 for equal pictures.

    Args:
        network: ``alex`` is the default of reports; numbers of unlike networks do not mix.
        weights: file of the network's weights; torch's cache if None.
        options: of torchmetrics' ``Metric``.

    Raises:
        MissingWeightsError: if the weights are not found.
    """

    higher_is_better = False

    def __init__(
        self, network: Network = "alex", *, weights: str | Path | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.distance = LPIPS(network, weights=weights)

    def measure(self, images: Tensor, references: Tensor) -> Tensor:
        """Return the LPIPS of each pair, uint8 or floats in [-1, 1]."""
        distance: Tensor = self.distance(from_uint8(images), from_uint8(references))
        return distance


class MeanDISTS(MeanOverPictures):
    """DISTS, 0 for equal pictures.

    Args:
        trunk: VGG-16's weights; torch's cache if None.
        head: alpha and beta; torchmetrics' copy if None.
        options: of torchmetrics' ``Metric``.

    Raises:
        MissingWeightsError: if weights are not found.
    """

    higher_is_better = False

    def __init__(
        self,
        *,
        trunk: str | Path | None = None,
        head: str | Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.distance = DISTS(trunk=trunk, head=head)

    def measure(self, images: Tensor, references: Tensor) -> Tensor:
        """Return the DISTS of each pair, uint8 or floats in [-1, 1]."""
        distance: Tensor = self.distance(from_uint8(images), from_uint8(references))
        return distance


__all__ = [
    "MeanDISTS",
    "MeanLPIPS",
    "MeanMSSSIM",
    "MeanOverPictures",
    "MeanPSNR",
    "MeanSSIM",
]
