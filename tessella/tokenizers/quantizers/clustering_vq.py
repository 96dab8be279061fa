"""Vector quantization whose unused codes jump onto vectors (CVQ-VAE, arXiv 2307.15139).

The codebook is trained by gradients as in plain VQ. In addition, every training step pulls each
code towards the vector of the joint batch that is nearest to it, the less it is used the more:

    p_k <- g p_k + (1-g) (share of the batch's vectors that chose k)
    a_k = exp(-10 K p_k / (1-g) - 1e-3)
    e_k <- (1-a_k) e_k + a_k r,   r the nearest vector to e_k

A code that is used as often as the average has ``K p_k = 1`` and stays where it is; one that is
never used moves by 0.999 of the way. A step quantizes before it moves codes.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from tessella.errors import ConfigError
from tessella.tokenizers.quantizers.base import Quantized
from tessella.tokenizers.quantizers.distributed import all_sum, world_size
from tessella.tokenizers.quantizers.nearest import nearest_codes
from tessella.tokenizers.quantizers.vq import VQ

_SHARPNESS = 10.0
_OFFSET = 1e-3


class ClusteringVQ(VQ):
    """Nearest code of a learned table whose unused entries follow the vectors.

    State: ``codebook`` (K, D), trained by gradients too, and ``usage`` (K,), running shares.

    Args:
        dim: width ``D``.
        codebook_size: ``K``.
        codebook_weight: factor of the term that moves codes to vectors.
        commitment_weight: factor of the term that moves vectors to codes.
        decay: ``g`` of the running shares.
    """

    usage: Tensor

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        codebook_weight: float = 1.0,
        commitment_weight: float = 0.25,
        decay: float = 0.99,
    ) -> None:
        super().__init__(
            dim,
            codebook_size,
            codebook_weight=codebook_weight,
            commitment_weight=commitment_weight,
        )
        if not 0 <= decay < 1:
            raise ConfigError(f"decay={decay} given; expected 0 to below 1")
        self.decay = decay
        self.register_buffer("usage", torch.zeros(codebook_size))

    def _quantize(self, z: Tensor, generator: torch.Generator | None) -> Quantized:
        out = super()._quantize(z, generator)
        if self.training:
            self._follow(z.detach().reshape(-1, self.dim), out.indices.flatten())
        return out

    @torch.no_grad()
    def _follow(self, rows: Tensor, indices: Tensor) -> None:
        """Move unused codes; the graph of this step holds no reference to the table's values."""
        size = self.vocab_sizes[0]
        counts = all_sum(torch.bincount(indices, minlength=size).float())
        self.usage.lerp_(counts / counts.sum(), 1 - self.decay)
        pull = torch.exp(-_SHARPNESS * size * self.usage / (1 - self.decay) - _OFFSET)
        nearest = self._nearest_vectors(rows).to(self.codebook.dtype)
        self.codebook.lerp_(nearest, pull.unsqueeze(1).to(self.codebook.dtype))

    def _nearest_vectors(self, rows: Tensor) -> Tensor:
        """Return the vector of the joint batch that is nearest to each code, ``(K, D)``."""
        table = self.codebook.float()
        found = rows[nearest_codes(table, rows)]
        if world_size() == 1:
            return found
        rank = dist.get_rank()
        distances = found.new_zeros(world_size(), len(table))
        distances[rank] = (found - table).square().sum(dim=1)
        is_mine = all_sum(distances).argmin(dim=0) == rank
        return all_sum(found * is_mine.unsqueeze(1))


__all__ = ["ClusteringVQ"]
