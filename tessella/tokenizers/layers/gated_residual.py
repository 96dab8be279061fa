"""Blocks of McQuic's networks (arXiv 2203.10897): residual blocks, and gates in place of attention.

::

    residual    x + conv(SiLU(conv(SiLU(x))))
    down by 2   conv_s2(x) + conv(GDN(conv_s2(SiLU(x))))
    up by 2     shuffle(x) + conv(IGDN(shuffle(SiLU(x))))        shuffle: conv to 4C, pixel shuffle
    gated       x + M(x) * sigmoid(G(x))                         M, G: three residual blocks each

The gated block is called attention in the paper; everything here is local. Convolutions are 3 x 3
and see their map reflected beyond its edges. A map one position wide has nothing to reflect: its
only row or column is repeated.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.tokenizers.layers.gdn import GDN


class ReflectedConv2d(nn.Conv2d):
    """A 3 x 3 convolution over a map that is reflected beyond its edges.

    Args:
        inputs: channels in.
        outputs: channels out.
        stride: 1, or 2 to halve even sides.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(B, C, h, w)``."""
        if x.shape[-1] == 1:
            x = F.pad(x, (1, 1, 0, 0), mode="replicate")
        else:
            x = F.pad(x, (1, 1, 0, 0), mode="reflect")
        mode = "replicate" if x.shape[-2] == 1 else "reflect"
        return super().forward(F.pad(x, (0, 0, 1, 1), mode=mode))


class Residual(nn.Module):
    """A residual block of two convolutions.

    Args:
        channels: width ``C``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.SiLU(),
            ReflectedConv2d(channels, channels),
            nn.SiLU(),
            ReflectedConv2d(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(B, C, h, w)``."""
        return x + cast(Tensor, self.branch(x))


class ResidualDown(nn.Module):
    """Halves the sides of a map.

    Args:
        channels: width ``C``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.SiLU(),
            ReflectedConv2d(channels, channels, stride=2),
            GDN(channels),
            ReflectedConv2d(channels, channels),
        )
        self.skip = ReflectedConv2d(channels, channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(B, C, 2 h, 2 w)`` into ``(B, C, h, w)``."""
        return cast(Tensor, self.skip(x)) + cast(Tensor, self.branch(x))


class ResidualUp(nn.Module):
    """Doubles the sides of a map.

    Args:
        channels: width ``C``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.SiLU(),
            shuffled(channels, channels),
            GDN(channels, is_inverse=True),
            ReflectedConv2d(channels, channels),
        )
        self.skip = shuffled(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(B, C, h, w)`` into ``(B, C, 2 h, 2 w)``."""
        return cast(Tensor, self.skip(x)) + cast(Tensor, self.branch(x))


class Gated(nn.Module):
    """Adds what one branch finds where another lets it.

    Args:
        channels: width ``C``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = _residuals(channels)
        self.gate = _residuals(channels)
        self.gate.append(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(B, C, h, w)``."""
        return x + cast(Tensor, self.main(x)) * torch.sigmoid(cast(Tensor, self.gate(x)))


def shuffled(inputs: int, outputs: int) -> nn.Sequential:
    """Return a convolution whose channels become twice the resolution."""
    return nn.Sequential(ReflectedConv2d(inputs, 4 * outputs), nn.PixelShuffle(2))


def _residuals(channels: int) -> nn.Sequential:
    return nn.Sequential(*(Residual(channels) for _ in range(3)))


__all__ = ["Gated", "ReflectedConv2d", "Residual", "ResidualDown", "ResidualUp", "shuffled"]
