"""Running averages of how often each scale hits each code."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tessella.tokenizers.quantizers.distributed import all_sum

_EARLY_DECAY, _LATE_DECAY, _EARLY_UPDATES = 0.9, 0.99, 100
_DEAD_BELOW = 0.08  # of the hits that a code would have if all were equally common


class HitAverages(nn.Module):
    """Averages of hit counts, as VAR's tokenizer keeps them (arXiv 2404.02905, released code).

    The counter advances with every scale, not with every batch, and is not saved: only the row of
    the very first update starts as a copy of its counts, the others grow from zero.

    Args:
        scales: number ``S`` of scales.
        codebook_size: ``K``.
    """

    def __init__(self, scales: int, codebook_size: int) -> None:
        super().__init__()
        self.register_buffer("hits", torch.zeros(scales, codebook_size))
        self._updates = 0

    hits: Tensor  # (S, K)

    @torch.no_grad()
    def update(self, scale: int, indices: Tensor) -> None:
        """Count the codes of one scale, over all processes."""
        row = self.hits[scale]
        counts = all_sum(torch.bincount(indices.flatten(), minlength=row.shape[0]).to(row.dtype))
        if self._updates == 0:
            row.copy_(counts)
        else:
            decay = _EARLY_DECAY if self._updates < _EARLY_UPDATES else _LATE_DECAY
            row.mul_(decay).add_(counts, alpha=1 - decay)
        self._updates += 1

    def usage(self, positions: int) -> Tensor:
        """Return the fraction of codes in use at each scale, ``(S,)``.

        Args:
            positions: positions of the last scale in a batch of all processes; a code is in use
                when its average reaches 8 % of an equal share of them.
        """
        share = positions / self.hits.shape[1]
        return (self.hits >= share * _DEAD_BELOW).float().mean(dim=1)


__all__ = ["HitAverages"]
