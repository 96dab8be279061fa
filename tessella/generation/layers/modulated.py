"""Normalisation and residual branches that a condition modulates (AdaLN, arXiv 2212.09748).

    x + gamma * f(LN(x) * (1 + scale) + shift),   gamma, scale, shift = Linear(SiLU(condition))

LayerNorm has no weights of its own. A condition stands for a whole picture, so its modulations are
computed once a picture, not once a scale.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Modulation(NamedTuple):
    """The six vectors of a block, each ``(B, 1, C)``: of attention, then of the perceptron."""

    gamma1: Tensor
    gamma2: Tensor
    scale1: Tensor
    scale2: Tensor
    shift1: Tensor
    shift2: Tensor

    @classmethod
    def split(cls, joined: Tensor) -> Modulation:
        """Split ``(B, 6 C)`` or ``(B, 1, 6, C)``."""
        parts = joined.reshape(joined.shape[0], 1, 6, -1)
        return cls(*parts.unbind(2))


def modulated(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """Return ``LN(x) * (1 + scale) + shift`` for ``(B, N, C)`` and vectors ``(B, 1, C)``."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=eps), 1 + scale)


def add_branch(x: Tensor, gamma: Tensor, branch: Tensor) -> Tensor:
    """Return ``x + gamma * branch``; in place where no gradients are kept."""
    if torch.is_grad_enabled():
        return torch.addcmul(x, gamma, branch)
    return x.addcmul_(gamma, branch)


__all__ = ["Modulation", "add_branch", "modulated"]
