"""Residual convolutions that scales of a pyramid share (VAR, arXiv 2404.02905, section 3.2).

    phi_j(x) = (1 - r) x + r conv_j(x)

Interpolated codes are smooth; phi gives them back some detail. ``m`` convolutions serve ``S``
scales: scale k takes the one whose tick is nearest to ``k / (S - 1)``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tessella.errors import ConfigError


def phi_of_scale(scale: int, scales: int, count: int) -> int:
    """Return which of ``count`` convolutions scale ``scale`` of ``scales`` takes.

    Ticks are equally spaced from ``1/(2m)`` to ``1 - 1/(2m)``, but from ``1/(3m)`` for ``m = 4``.
    Two of the published ten scales lie in the middle between two ticks, and rounding decides: this
    is double precision in exactly this order, which published weights depend on.

    Args:
        scale: ``k``, from 0; the only scale of a pyramid counts as its last.
        scales: ``S``.
        count: ``m``.
    """
    if count == 1:
        return 0
    first = 1 / 3 / count if count == 4 else 1 / 2 / count
    step = ((1 - first) - first) / (count - 1)
    ticks = [first + j * step for j in range(count - 1)] + [1 - first]
    position = scale / (scales - 1) if scales > 1 else 1.0
    return min(range(count), key=lambda j: abs(ticks[j] - position))


class PhiConvolutions(nn.Module):
    """The shared convolutions of all scales.

    Args:
        channels: width of the maps.
        count: number ``m`` of 3x3 convolutions: 1 is shared by all scales, as many as scales is
            one a scale.
        ratio: ``r``, 0 to 1; with 0 there are no convolutions and phi is the identity.
    """

    def __init__(self, channels: int, count: int, ratio: float) -> None:
        super().__init__()
        if count < 1 or not 0 <= ratio <= 1:
            raise ConfigError(
                f"count={count}, ratio={ratio} given; expected at least one convolution and a "
                "ratio from 0 (identity) to 1"
            )
        self.ratio = ratio
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(count if ratio else 0)
        )

    def forward(self, x: Tensor, scale: int, scales: int) -> Tensor:
        """Transform float32 maps ``(B, C, h, w)`` of scale ``scale`` of ``scales``."""
        if not self.ratio:
            return x
        conv = self.convolutions[phi_of_scale(scale, scales, len(self.convolutions))]
        return torch.add(x * (1 - self.ratio), conv(x), alpha=self.ratio)


__all__ = ["PhiConvolutions", "phi_of_scale"]
