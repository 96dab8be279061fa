"""Clipping and rounding with gradients that keep training going."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bounds = (low, high)
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        (gradient,) = gradients
        low, high = ctx.bounds
        passes = ((x >= low) | (gradient < 0)) & ((x <= high) | (gradient > 0))
        return gradient * passes, None, None


def clipped(x: Tensor, low: float, high: float) -> Tensor:
    """Clip to a range; outside it, gradients pass only where a step along them leads back."""
    return _Clip.apply(x, low, high)  # type: ignore[no-any-return,no-untyped-call]


def rounded_through(x: Tensor) -> Tensor:
    """Round, ties to even; gradients pass as if nothing was done."""
    return x + (x.round() - x).detach()


__all__ = ["clipped", "rounded_through"]
