"""Group normalisation whose scale and shift come from statistics of the codes.

    style(c):  m = mean(c),  s = sqrt(var(c) + 1e-6)      over positions, for each channel
    A(x) = (W_g s + b_g) norm(x) + (W_b m + b_b)

as in the decoder of Open-MAGVIT2 (arXiv 2409.04410), which follows MAGVIT-v2 (arXiv 2310.05737).
The statistics are those of a whole picture: a tile of it has others.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from tessella.tokenizers.layers.norm_residual import exact_group_norm

_VARIANCE_EPS = 1e-6


class Style(NamedTuple):
    """Mean and standard deviation of each channel of a picture's codes, ``(B, Z)`` float32."""

    mean: Tensor
    deviation: Tensor


def style_of(codes: Tensor) -> Style:
    """Return the statistics of codes ``(B, Z, h, w)`` over their positions.

    The variance is the unbiased one. A single position has none, and counts as not varying;
    published code gives NaN there.
    """
    codes = codes.float()
    mean = codes.mean(dim=(2, 3))
    if codes.shape[2] * codes.shape[3] > 1:
        variance = codes.var(dim=(2, 3), correction=1)
    else:
        variance = torch.zeros_like(mean)
    return Style(mean, (variance + _VARIANCE_EPS).sqrt())


class AdaptiveGroupNorm(nn.Module):
    """Normalisation scaled and shifted by the style of the codes.

    Args:
        channels: width ``C``.
        style_channels: width ``Z`` of the codes.
        norm_groups: groups of the normalisation.
    """

    def __init__(self, channels: int, style_channels: int, *, norm_groups: int) -> None:
        super().__init__()
        self.norm_groups = norm_groups
        self.gamma = nn.Linear(style_channels, channels)
        self.beta = nn.Linear(style_channels, channels)

    def forward(self, x: Tensor, style: Style) -> Tensor:
        """Transform ``(B, C, h, w)``."""
        scale = self.gamma(style.deviation.to(self.gamma.weight.dtype))[:, :, None, None]
        shift = self.beta(style.mean.to(self.beta.weight.dtype))[:, :, None, None]
        normed = exact_group_norm(x, self.norm_groups)
        if torch.is_grad_enabled():
            return cast(Tensor, normed * scale + shift)
        return normed.mul_(scale).add_(shift)


__all__ = ["AdaptiveGroupNorm", "Style", "style_of"]
