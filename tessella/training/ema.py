"""An exponential moving average of a model's weights."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class MovingAverage(Generic[M]):
    """A copy of a model whose weights follow it slowly.

    Args:
        model: the model to follow; copied.
        decay: share of the old average kept at each step. Early steps keep less,
            ``(1 + step) / (10 + step)``, so that the random start is soon forgotten.
    """

    def __init__(self, model: M, *, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, *, step: int) -> None:
        """Take in the model's weights after ``step`` steps were done before this one."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, current in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(current, 1 - decay)
        for held, given in zip(self.model.buffers(), model.buffers(), strict=True):
            held.copy_(given)


__all__ = ["MovingAverage"]
