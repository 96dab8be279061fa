"""Infinity's multi-scale binary quantizer (arXiv 2412.04431).

    u = z / |z|,   bit_j = [u_j > 0],   q = (2 bit - 1) / sqrt(D),   lift(q) = bilinear(q -> h x w)

There is no codebook and nothing to learn. A position is ``D`` bits, each an index of its own with
an alphabet of two: what a bitwise generator predicts, and no width is too large for an integer.
Gradients pass straight through from ``q`` to ``u``. The released code has no loss here; training
offers the entropy penalty of lookup-free codes, ``w (E_sample - E_batch)`` at temperature 1/100,
mean over scales.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tessella.tokenizers.layers.resampling import Grid, interpolated
from tessella.tokenizers.quantizers.base import Quantized
from tessella.tokenizers.quantizers.bsq import BSQ
from tessella.tokenizers.quantizers.entropy import EntropyConfig
from tessella.tokenizers.quantizers.estimators import straight_through
from tessella.tokenizers.quantizers.multiscale import MultiScaleQuantizer, ScalesQuantized

_INVERSE_TEMPERATURE = 100.0


class MultiScaleBSQ(MultiScaleQuantizer):
    """Signs of unit vectors at every scale.

    Args:
        dim: width ``D``, the bits of a position.
        entropy_weight: factor of the entropy penalty.
    """

    def __init__(self, dim: int, *, entropy_weight: float = 0.0) -> None:
        super().__init__(dim, (2,) * dim)
        entropy = EntropyConfig(
            weight=entropy_weight,
            temperature=1 / _INVERSE_TEMPERATURE,
            reduction="per_group_sum",
            marginal="bitwise",
            log_eps=1e-8,
        )
        self.bsq = BSQ(dim, 1, entropy=entropy)

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Return the unit vectors ``(B, h, w, D)`` of bits ``(B, h, w, D)``.

        Raises:
            ShapeError: if they are not ``D`` bits.
        """
        return self.bsq.indices_to_codes(indices)

    def next_input(self, total: Tensor, grid: Grid) -> Tensor:
        """Sample a running sum ``(B, D, h, w)`` bilinearly at the next grid, not antialiased."""
        return interpolated(total, grid, "bilinear")

    def bits(self, vectors: Tensor) -> Tensor:
        """Return the bits ``(..., D)`` int64 of vectors ``(..., D)``."""
        return self.bsq.codes_to_indices(vectors)

    def _choose(self, vectors: Tensor) -> Quantized:
        found: Quantized = self.bsq(vectors)
        unit = nn.functional.normalize(vectors, dim=-1)
        return found._replace(z_q=straight_through(unit, found.z_q))

    def _lift(self, codes: Tensor, scale: int, grids: Sequence[Grid]) -> Tensor:
        return interpolated(codes, grids[-1], "bilinear")

    def _quantize(self, features: Tensor, grids: Sequence[Grid]) -> ScalesQuantized:
        chosen, sums = self._descend(features, grids)
        indices = tuple(found.indices for found in chosen)
        if not self.training:
            return ScalesQuantized(sums[-1], indices, sums, {}, {})
        penalty = torch.stack([found.losses["entropy"] for found in chosen]).mean()
        stats = {
            name: torch.stack([found.stats[name] for found in chosen]).mean()
            for name in ("token_entropy", "codebook_entropy")
        }
        return ScalesQuantized(sums[-1], indices, sums, {"entropy": penalty}, stats)


__all__ = ["MultiScaleBSQ"]
