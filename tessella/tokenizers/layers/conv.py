"""Convolutional building blocks that see no more than their kernels: nothing global, no norms.

Without statistics over the picture a tile with a margin gives what the whole picture gives.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.1  # leaky ReLU: cheap on every device, and no dead units without normalisation


class ResidualBlock(nn.Module):
    """``x + conv(act(affine(conv(act(x)))))``, starting as the identity.

    Args:
        channels: width ``C``.
        conditions: number of conditions that choose the per-channel affine map; 0 for none.
    """

    #: pixels of its own grid that a block sees beyond each side
    reach = 2

    def __init__(self, channels: int, *, conditions: int = 0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(_bias(self.conv2))
        self.affine: nn.Embedding | None = None
        if conditions:
            self.affine = nn.Embedding(conditions, 2 * channels)
            nn.init.zeros_(self.affine.weight)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Transform ``(B, C, h, w)``; ``condition`` is ``(B,)`` int64 where the block has any."""
        weight, bias = self.conv1.weight, _bias(self.conv1)
        h = F.leaky_relu(x, SLOPE)
        if self.affine is not None and condition is not None:
            scale, shift = self.affine(condition).chunk(2, dim=-1)
            if not torch.is_grad_enabled() and len(condition) == 1:
                # one condition for all: the affine map folds into the convolution
                weight = weight * (1 + scale).view(-1, 1, 1, 1)
                bias = (bias + shift[0]) * (1 + scale[0])
                h = F.conv2d(h, weight, bias, padding=1)
            else:
                h = F.conv2d(h, weight, bias, padding=1) + shift[:, :, None, None]
                h = torch.addcmul(h, h, scale[:, :, None, None])
        else:
            h = F.conv2d(h, weight, bias, padding=1)
        if torch.is_grad_enabled():
            return x + cast(Tensor, self.conv2(F.leaky_relu(h, SLOPE)))
        # in place: large pictures spend their time on fresh memory
        return cast(Tensor, self.conv2(F.leaky_relu_(h, SLOPE))).add_(x)


def _bias(conv: nn.Conv2d) -> Tensor:
    return cast(Tensor, conv.bias)


__all__ = ["SLOPE", "ResidualBlock"]
