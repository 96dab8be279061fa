"""Residual quantization over scales: a pyramid of small maps whose sum is the feature map.

::

    rest = f, sum = 0
    for k = 0 .. S-1:
        codes_k = quantize(area(rest -> h_k x w_k))
        sum  += lift_k(codes_k -> h x w)
        rest -= lift_k(codes_k -> h x w)

The next-scale models of VAR (arXiv 2404.02905) and Infinity (arXiv 2412.04431) differ in the codes
and in ``lift``. Grids are explicit: ``(h_k, w_k)`` a scale, the last one that of the feature map.
Maps are ``(B, D, h, w)``, indices ``(B, h, w, G)``. All sums are float32 with autocast off.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tessella.errors import ShapeError
from tessella.tokenizers.layers.resampling import Grid, area
from tessella.tokenizers.quantizers.base import Quantized, without_autocast


class ScalesQuantized(NamedTuple):
    """What a multi-scale quantizer makes of feature maps.

    Args:
        z_q: ``(B, D, h, w)``, with the estimator's gradient to the features.
        indices: one ``(B, h_k, w_k, G)`` int64 tensor a scale.
        sums: float32 running sums ``(B, D, h, w)`` after each scale.
        losses: weighted scalar terms; empty in evaluation mode.
        stats: detached numbers.
    """

    z_q: Tensor
    indices: tuple[Tensor, ...]
    sums: tuple[Tensor, ...]
    losses: dict[str, Tensor]
    stats: dict[str, Tensor]


class MultiScaleQuantizer(nn.Module, ABC):
    """The loop over scales; subclasses choose codes and lift them.

    Args:
        dim: width ``D`` of the feature map.
        vocab_sizes: alphabets of the ``G`` indices of a position.
    """

    def __init__(self, dim: int, vocab_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.dim = dim
        self.vocab_sizes = vocab_sizes

    def forward(self, features: Tensor, grids: Sequence[Grid]) -> ScalesQuantized:
        """Quantize feature maps.

        Args:
            features: ``(B, D, h, w)`` floats.
            grids: ``(h_k, w_k)`` a scale; the last is ``(h, w)``.

        Raises:
            ShapeError: if the last grid is not the features', or the width differs.
        """
        if features.ndim != 4 or features.shape[1] != self.dim or not grids:
            raise ShapeError(
                f"features {tuple(features.shape)} and {len(grids)} grids given; expected "
                f"(B, {self.dim}, h, w) and at least one grid"
            )
        if tuple(grids[-1]) != tuple(features.shape[-2:]):
            raise ShapeError(
                f"features of {tuple(features.shape[-2:])} given, the last grid is "
                f"{tuple(grids[-1])}; expected the last scale to be as large as the features"
            )
        with without_autocast(features.device):
            out = self._quantize(features.float(), grids)
        return out._replace(z_q=out.z_q.to(features.dtype))

    def lift(self, codes: Tensor, scale: int, grids: Sequence[Grid]) -> Tensor:
        """Bring a scale's codes ``(B, h_k, w_k, D)`` to the last grid, float32 ``(B, D, h, w)``."""
        with without_autocast(codes.device):
            return self._lift(codes.float().permute(0, 3, 1, 2), scale, grids)

    def indices_to_sum(self, indices: Sequence[Tensor], grids: Sequence[Grid]) -> Tensor:
        """Sum the first scales, float32 ``(B, D, h, w)``.

        Args:
            indices: one ``(B, h_k, w_k, G)`` tensor a scale, all scales or the first ones.
            grids: the grids of all scales.
        """
        total = self.empty_sum(len(indices[0]), grids, indices[0].device)
        for scale, level in enumerate(indices):
            total = total + self.lift(self.indices_to_codes(level), scale, grids)
        return total

    def empty_sum(self, batch: int, grids: Sequence[Grid], device: torch.device) -> Tensor:
        """Return the sum of no scales: zeros ``(B, D, h, w)``."""
        return torch.zeros(batch, self.dim, *grids[-1], device=device)

    @abstractmethod
    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Look up float32 codes ``(B, h, w, D)`` of indices ``(B, h, w, G)``."""

    @abstractmethod
    def next_input(self, total: Tensor, grid: Grid) -> Tensor:
        """Resample a running sum to the features that a generator reads for the next scale."""

    @abstractmethod
    def _choose(self, vectors: Tensor) -> Quantized:
        """Quantize float32 vectors ``(B, h, w, D)`` of one scale."""

    @abstractmethod
    def _lift(self, codes: Tensor, scale: int, grids: Sequence[Grid]) -> Tensor:
        """Bring float32 codes ``(B, D, h_k, w_k)`` to the last grid."""

    @abstractmethod
    def _quantize(self, features: Tensor, grids: Sequence[Grid]) -> ScalesQuantized:
        """Quantize float32 features with autocast off."""

    def _descend(
        self, features: Tensor, grids: Sequence[Grid]
    ) -> tuple[list[Quantized], tuple[Tensor, ...]]:
        """Run the loop: what each scale chose, and the sums after each."""
        rest = features
        total = torch.zeros_like(features)
        chosen, sums = [], []
        for scale, grid in enumerate(grids):
            found = self._choose(area(rest, grid).permute(0, 2, 3, 1))
            lifted = self._lift(found.z_q.permute(0, 3, 1, 2), scale, grids)
            total = total + lifted
            rest = rest - lifted.detach()
            chosen.append(found)
            sums.append(total)
        return chosen, tuple(sums)


__all__ = ["MultiScaleQuantizer", "ScalesQuantized"]
