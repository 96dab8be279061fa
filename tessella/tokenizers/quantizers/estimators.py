"""Gradients through a discrete choice: straight-through and the rotation trick.

Both return a tensor whose value *is* the code (no ``z + (c - z)`` rounding residue) and whose
gradient goes to the vector only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_MIN_NORM = 1e-6


def straight_through(z: Tensor, codes: Tensor) -> Tensor:
    """Return ``codes`` with the identity as gradient to ``z`` (arXiv 1308.3432)."""
    return codes.detach() + (z - z.detach())


def rotate_to(z: Tensor, codes: Tensor) -> Tensor:
    """Return ``codes`` with the gradient of the rotation that takes ``z`` there.

    With ``a = z/|z|``, ``b = c/|c|``, ``w = (a+b)/|a+b|`` held constant, the map is
    ``(|c|/|z|) [z - 2 (z.w) w + 2 (z.a) b]`` (arXiv 2410.06424). For ``b = -a`` the axis ``w``
    does not exist; it is taken as zero there.

    Args:
        z: ``(..., D)``.
        codes: ``(..., D)``.
    """
    with torch.no_grad():
        z_norm = z.norm(dim=-1, keepdim=True).clamp_min(_MIN_NORM)
        code_norm = codes.norm(dim=-1, keepdim=True).clamp_min(_MIN_NORM)
        a, b = z / z_norm, codes / code_norm
        w = nn.functional.normalize(a + b, dim=-1, eps=_MIN_NORM)
        scale = code_norm / z_norm
    along_w = (z * w).sum(dim=-1, keepdim=True)
    along_a = (z * a).sum(dim=-1, keepdim=True)
    rotated = scale * (z - 2 * along_w * w + 2 * along_a * b)
    return straight_through(rotated, codes)


__all__ = ["rotate_to", "straight_through"]
