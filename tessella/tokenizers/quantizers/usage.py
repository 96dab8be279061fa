"""How evenly a batch uses a codebook."""

from __future__ import annotations

import torch
from torch import Tensor


def usage_stats(indices: Tensor, codebook_size: int) -> dict[str, Tensor]:
    """Return the fraction of codes that a batch hits and the perplexity of its histogram.

    Both are those of this process's batch and mean little below about 10 tokens a code.

    Args:
        indices: int64 of any shape.
        codebook_size: ``K``.
    """
    counts = torch.bincount(indices.flatten(), minlength=codebook_size).float()
    p = counts / counts.sum().clamp_min(1)
    entropy = -torch.special.xlogy(p, p).sum()
    return {"usage": (counts > 0).float().mean(), "perplexity": entropy.exp()}


__all__ = ["usage_stats"]
