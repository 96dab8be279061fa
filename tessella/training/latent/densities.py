"""Bits of latents under densities in floats: what training minimises in the place of file sizes.

A value is coded with the probability of the unit interval around it. In training it is not rounded
but has uniform noise added, which makes that probability a density with gradients (arXiv
1611.01704).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.codecs.entropy.latent.clipping import clipped
from tessella.codecs.entropy.latent.network import LARGEST_SCALE, LEAST_SCALE, SCALES, Expected

_LEAST = 2.0**-24  # probabilities below cost no more, and get no gradient that lowers them
_COMPONENTS = 3


def gaussian_bits(values: Tensor, expected: Expected) -> Tensor:
    """Return the bits of each value ``(B, C, h, w)`` under a Gaussian.

    Args:
        values: whole, or with noise.
        expected: mean, and place of the scale on the ladder.
    """
    ladder = math.log(LARGEST_SCALE / LEAST_SCALE) / (SCALES - 1)
    scale = LEAST_SCALE * (expected.scale * ladder).exp()
    # by symmetry both ends lie in the lower tail, where differences are exact
    distance = (values - expected.mean).abs()
    root = scale * math.sqrt(2)
    upper = torch.erfc((distance - 0.5) / root)
    lower = torch.erfc((distance + 0.5) / root)
    return -clipped(0.5 * (upper - lower), _LEAST, 1.0).log2()


class HyperDensity(nn.Module):
    """Mixtures of logistic distributions, one a channel and point of quality.

    Args:
        channels: ``Z``.
        points: qualities between which parameters are interpolated.
    """

    def __init__(self, channels: int, points: int) -> None:
        super().__init__()
        spread = torch.linspace(-2.0, 2.0, _COMPONENTS)
        self.mean = nn.Parameter(spread.repeat(points, channels, 1))
        self.log_scale = nn.Parameter(torch.zeros(points, channels, _COMPONENTS))
        self.weight = nn.Parameter(torch.zeros(points, channels, _COMPONENTS))

    def bits(self, values: Tensor, quality: Tensor) -> Tensor:
        """Return the bits of each value ``(B, Z, h, w)``.

        Args:
            values: whole, or with noise.
            quality: weights of the points, ``(B, points)``.
        """
        mean, log_scale, weight = (
            torch.einsum("bp,pck->bck", quality, table)[:, :, None, None]
            for table in (self.mean, self.log_scale, self.weight)
        )
        x = (values[..., None] - mean).abs()
        steepness = (-log_scale).exp()
        inside = torch.sigmoid((0.5 - x) * steepness) - torch.sigmoid((-0.5 - x) * steepness)
        probability = (inside * F.softmax(weight, dim=-1)).sum(dim=-1)
        return -clipped(probability, _LEAST, 1.0).log2()


__all__ = ["HyperDensity", "gaussian_bits"]
