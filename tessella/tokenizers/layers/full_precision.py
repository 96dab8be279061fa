"""Layers that stay in float32 when the model around them is cast.

Where a layer's weights are part of what tokens mean, rounding them would give another token space.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from tessella.tokenizers.quantizers.base import without_autocast


class FullPrecisionConv2d(nn.Conv2d):
    """A convolution with float32 weights, inputs and outputs, whatever surrounds it."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``(B, C, h, w)`` of any floating-point type into float32."""
        with without_autocast(input.device):
            return cast(Tensor, self._conv_forward(input.float(), self.weight, self.bias))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FullPrecisionConv2d:
        """Move to a device, but keep the type when the model is cast."""

        def moved(tensor: Tensor) -> Tensor:
            new = fn(tensor)
            return tensor.to(new.device) if new.dtype != tensor.dtype else new

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self


__all__ = ["FullPrecisionConv2d"]
