"""Analysis and synthesis transforms of rate-distortion trained latents, 16 pixels a step.

::

    x --unshuffle 4, conv--> (H/4) blocks --unshuffle 2, 1x1--> (H/8) blocks
      --unshuffle 2, 1x1--> (H/16) blocks --1x1--> + linear(x by 16 x 16 patches) --> y

Synthesis is the mirror, with pixel shuffles. The linear path starts as a Karhunen-Loeve transform
of the patches (:meth:`Analysis.set_basis`) and the network beside it as zero, so that training
begins with a working transform code. There is no normalisation and nothing global (arXiv 1802.01436
uses GDN in the place of the blocks).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.tokenizers.layers.conv import SLOPE, ResidualBlock

PATCH = 16
_PATCH_VALUES = 3 * PATCH * PATCH
_STEM = 4
#: sizes of a grid step of the three scales in pixels
_STEPS = (4, 8, 16)


class Analysis(nn.Module):
    """Images ``(B, 3, H, W)`` to latents ``(B, M, H/16, W/16)``.

    Args:
        channels: ``M``.
        widths: channels at 1/4, 1/8 and 1/16 of the resolution.
        blocks: residual blocks there.
    """

    def __init__(self, channels: int, *, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        self.linear = nn.Conv2d(_PATCH_VALUES, channels, 1)
        self.stem = nn.Conv2d(3 * _STEM * _STEM, widths[0], 3, padding=1)
        self.stages = nn.ModuleList(_blocks(*pair) for pair in zip(widths, blocks, strict=True))
        self.down = nn.ModuleList(
            nn.Conv2d(4 * fine, coarse, 1) for fine, coarse in itertools.pairwise(widths)
        )
        self.last = nn.Conv2d(widths[-1], channels, 1)
        _zero(self.last)

    def forward(self, images: Tensor) -> Tensor:
        """Transform images whose sides are multiples of 16."""
        x = self.stages[0](self.stem(F.pixel_unshuffle(images, _STEM)))
        for down, stage in zip(self.down, self.stages[1:], strict=True):
            x = stage(down(F.pixel_unshuffle(F.leaky_relu(x, SLOPE), 2)))
        detail = self.last(F.leaky_relu(x, SLOPE))
        return cast(Tensor, self.linear(F.pixel_unshuffle(images, PATCH)) + detail)

    @torch.no_grad()
    def set_basis(self, basis: Tensor, mean: Tensor) -> None:
        """Let the linear path be a projection.

        Args:
            basis: rows ``(M, 768)`` that patches, unshuffled, are projected on.
            mean: mean patch ``(768,)``.
        """
        self.linear.weight.copy_(basis[:, :, None, None])
        cast(Tensor, self.linear.bias).copy_(-basis @ mean)


class Synthesis(nn.Module):
    """Latents ``(B, M, h, w)`` to images ``(B, 3, 16 h, 16 w)``, not clamped.

    Args:
        channels: ``M``.
        widths: channels at 1/4, 1/8 and 1/16 of the resolution.
        blocks: residual blocks there.
    """

    def __init__(self, channels: int, *, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        self.linear = nn.Conv2d(channels, _PATCH_VALUES, 1)
        self.first = nn.Conv2d(channels, widths[-1], 1)
        self.stages = nn.ModuleList(_blocks(*pair) for pair in zip(widths, blocks, strict=True))
        self.up = nn.ModuleList(
            nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in itertools.pairwise(widths)
        )
        self.last = nn.Conv2d(widths[0], 3 * _STEM * _STEM, 3, padding=1)
        _zero(self.last)

    def forward(self, latents: Tensor) -> Tensor:
        """Transform latents."""
        x = self.stages[-1](self.first(latents))
        scales = zip(reversed(self.up), reversed(self.stages[:-1]), strict=True)
        for up, stage in scales:
            x = stage(F.pixel_shuffle(up(F.leaky_relu(x, SLOPE)), 2))
        detail = F.pixel_shuffle(self.last(F.leaky_relu(x, SLOPE)), _STEM)
        return F.pixel_shuffle(self.linear(latents), PATCH) + detail

    @torch.no_grad()
    def set_basis(self, basis: Tensor, mean: Tensor) -> None:
        """Let the linear path be a reconstruction.

        Args:
            basis: columns ``(768, M)`` of a patch, unshuffled.
            mean: mean patch ``(768,)``.
        """
        self.linear.weight.copy_(basis[:, :, None, None])
        cast(Tensor, self.linear.bias).copy_(mean)


class HyperAnalysis(nn.Module):
    """Scaled latents ``(B, M, h, w)`` to hyper-latents ``(B, Z, h/4, w/4)``.

    Args:
        channels: ``M``.
        width: channels of the layers between.
        outputs: ``Z``.
    """

    def __init__(self, channels: int, *, width: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv2 = nn.Conv2d(4 * width, width, 3, padding=1)
        self.conv3 = nn.Conv2d(4 * width, outputs, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """Transform latents whose sides are multiples of 4."""
        x = F.leaky_relu(self.conv1(latents), SLOPE)
        x = F.leaky_relu(self.conv2(F.pixel_unshuffle(x, 2)), SLOPE)
        return cast(Tensor, self.conv3(F.pixel_unshuffle(x, 2)))


def reach(blocks: Sequence[int]) -> int:
    """Return the pixels beyond a cell's edge that change its latents, or its pixels."""
    within = sum(
        count * ResidualBlock.reach * step for count, step in zip(blocks, _STEPS, strict=True)
    )
    # the stem's 3x3 convolution, and cells of the coarser scales that are cut by an edge
    return within + _STEM + PATCH


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))


def _zero(conv: nn.Conv2d) -> None:
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(cast(Tensor, conv.bias))


__all__ = ["PATCH", "Analysis", "HyperAnalysis", "Synthesis", "reach"]
