"""A least value for trained parameters that they can leave again.

Plain clamping has no gradient below the bound: a parameter that falls there stays there.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


class _AtLeast(torch.autograd.Function):
    """``max(x, bound)``; below the bound only gradients that raise ``x`` pass."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound  # type: ignore[attr-defined]
        return x.clamp_min(bound)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        passes = (x >= ctx.bound) | (grad < 0)  # type: ignore[attr-defined]
        return grad * passes, None


def at_least(x: Tensor, bound: float) -> Tensor:
    """Return ``max(x, bound)`` with a gradient that never holds values below the bound.

    Args:
        x: any shape.
        bound: the least value.
    """
    return cast(Tensor, _AtLeast.apply(x, bound))


__all__ = ["at_least"]
