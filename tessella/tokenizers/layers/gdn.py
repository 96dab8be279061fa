"""Generalized divisive normalization (arXiv 1511.06281), and its approximate inverse.

    y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2)        (the inverse multiplies instead)

``beta`` and ``gamma`` must not become negative. What is trained are raw values ``p`` with

    value = max(p, bound)^2 - eps,   bound = sqrt(least + eps),   eps = 1e-8

whose gradient still passes where a step would bring a value below the bound back.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.tokenizers.layers.lower_bound import at_least
from tessella.tokenizers.quantizers.base import without_autocast

_EPS = 1e-4**2
_LEAST_BETA = 1e-6
_LEAST_GAMMA = 0.0


class GDN(nn.Module):
    """Normalizes every channel by the energy of all channels at its position.

    Args:
        channels: width ``C``.
        is_inverse: multiply instead of dividing, as decoders do.
    """

    def __init__(self, channels: int, *, is_inverse: bool = False) -> None:
        super().__init__()
        self.is_inverse = is_inverse
        self.beta = nn.Parameter(_raw(torch.ones(channels)))
        self.gamma = nn.Parameter(_raw(0.1 * torch.eye(channels)))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``(B, C, h, w)``, in float32 whatever its type."""
        with without_autocast(x.device):
            beta = _value(self.beta.float(), _LEAST_BETA)
            gamma = _value(self.gamma.float(), _LEAST_GAMMA)
            wide = x.float()
            energy = F.conv2d(wide.square(), gamma[:, :, None, None], beta)
            y = wide * (energy.sqrt() if self.is_inverse else energy.rsqrt())
        return y.to(x.dtype)


def _raw(value: Tensor) -> Tensor:
    return (value + _EPS).clamp_min(_EPS).sqrt()


def _value(raw: Tensor, least: float) -> Tensor:
    return at_least(raw, float((least + _EPS) ** 0.5)).square() - _EPS


__all__ = ["GDN"]
