"""Residual blocks with group normalisation and without biases, as in MAGVIT-v2.

    x + conv(silu(norm(conv(silu(norm(x))))))

A shortcut of another width is a 1x1 convolution (MAGVIT-v2, arXiv 2310.05737; Open-MAGVIT2, arXiv
2409.04410).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPS = 1e-6  # of every normalisation in networks that descend from VQGAN


def exact_group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Normalise groups of channels of ``(B, C, h, w)``, to the last digits of float32.

    On a CPU torch takes variances of channels-last tensors as differences of large sums: where a
    group's mean is ten times its deviation, three digits are lost, enough to be seen in published
    networks. Contiguous tensors are exact, and stay contiguous through the convolutions after.
    """
    return F.group_norm(x.contiguous(), groups, weight, bias, NORM_EPS)


class NormSiLU(nn.GroupNorm):
    """Group normalisation followed by SiLU.

    Args:
        channels: width ``C``, a multiple of the groups.
        norm_groups: groups of the normalisation.
    """

    def __init__(self, channels: int, *, norm_groups: int) -> None:
        super().__init__(norm_groups, channels, eps=NORM_EPS)

    def forward(self, input: Tensor) -> Tensor:
        """Transform ``(B, C, h, w)``."""
        normed = exact_group_norm(input, self.num_groups, self.weight, self.bias)
        # in place where no gradient needs the input of the activation
        return F.silu(normed, inplace=not torch.is_grad_enabled())


class NormResidualBlock(nn.Module):
    """Two convolutions without biases, each after a normalisation, and a shortcut.

    Args:
        inputs: width of the input.
        outputs: width of the output.
        norm_groups: groups of the normalisations.
    """

    def __init__(self, inputs: int, outputs: int, *, norm_groups: int) -> None:
        super().__init__()
        self.norm1 = NormSiLU(inputs, norm_groups=norm_groups)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm2 = NormSiLU(outputs, norm_groups=norm_groups)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(B, inputs, h, w)`` into ``(B, outputs, h, w)``."""
        h = cast(Tensor, self.conv2(self.norm2(self.conv1(self.norm1(x)))))
        shortcut = self.shortcut(x)
        return h + shortcut if torch.is_grad_enabled() else h.add_(shortcut)


def residual_blocks(count: int, inputs: int, outputs: int, *, norm_groups: int) -> nn.Sequential:
    """Return a row of blocks, the first of which changes the width."""
    return nn.Sequential(
        *(
            NormResidualBlock(outputs if i else inputs, outputs, norm_groups=norm_groups)
            for i in range(count)
        )
    )


__all__ = ["NormResidualBlock", "NormSiLU", "exact_group_norm", "residual_blocks"]
