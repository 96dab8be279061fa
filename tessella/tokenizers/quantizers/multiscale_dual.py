"""TokenFlow's quantizer (arXiv 2412.03069): two codebooks, one index, over a pyramid of scales.

A vector has a semantic and a pixel half, each on its own unit sphere. Row k of both codebooks is
chosen together, so that one index stands for a meaning and an appearance:

    a, b = r[:s] / |r[:s]|, r[s:] / |r[s:]|
    k = argmin_j  |a - e_j|^2 + w |b - p_j|^2,    q = [e_k; p_k]
    codebook loss = mean((q - sg [a; b])^2),  commitment = beta mean((sg q - [a; b])^2)

Residuals are those of the features as they are, not normalised. Weights stay float32 when the
model is cast: they are what tokens mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers.layers.resampling import Grid, area, interpolated
from tessella.tokenizers.quantizers.base import Quantized, without_autocast
from tessella.tokenizers.quantizers.entropy import EntropyConfig, entropy_penalty
from tessella.tokenizers.quantizers.estimators import straight_through
from tessella.tokenizers.quantizers.multiscale import MultiScaleQuantizer, ScalesQuantized
from tessella.tokenizers.quantizers.nearest import nearest_codes
from tessella.tokenizers.quantizers.soft_assignment import assignment_entropies
from tessella.tokenizers.quantizers.usage import usage_stats


class DualCodebook(MultiScaleQuantizer):
    """Shared indices of a semantic and a pixel codebook, at every scale.

    Args:
        semantic_dim: width of the first part of a vector.
        pixel_dim: width of the second part.
        codebook_size: ``K``.
        pixel_weight: ``w``.
        commitment_weight: ``beta``.
        entropy: optional penalty on ``softmax(-distance / T)``; None leaves it out.
    """

    def __init__(
        self,
        semantic_dim: int,
        pixel_dim: int,
        codebook_size: int,
        *,
        pixel_weight: float = 1.0,
        commitment_weight: float = 0.25,
        entropy: EntropyConfig | None = None,
    ) -> None:
        super().__init__(semantic_dim + pixel_dim, (codebook_size,))
        if min(semantic_dim, pixel_dim) < 1 or codebook_size < 2 or pixel_weight < 0:
            raise ConfigError(
                f"semantic_dim={semantic_dim}, pixel_dim={pixel_dim}, codebook_size="
                f"{codebook_size}, pixel_weight={pixel_weight} given; expected widths of at least "
                "1, 2 codes or more and no negative weight"
            )
        self.widths = [semantic_dim, pixel_dim]
        self.pixel_weight = pixel_weight
        self.commitment_weight = commitment_weight
        self.entropy = entropy
        bound = 1 / codebook_size
        self.codebook = nn.Parameter(torch.empty(codebook_size, self.dim).uniform_(-bound, bound))

    def forward(
        self, features: Tensor, grids: Sequence[Grid], *, dropped: int | None = None
    ) -> ScalesQuantized:
        """Quantize feature maps; see :class:`MultiScaleQuantizer`.

        Args:
            features: ``(B, D, h, w)`` floats.
            grids: ``(h_k, w_k)`` a scale.
            dropped: a scale whose codes are chosen but not added, for training.
        """
        if dropped is None:
            return super().forward(features, grids)
        with without_autocast(features.device):
            out = self._run(features.float(), grids, dropped)
        return out._replace(z_q=out.z_q.to(features.dtype))

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Look up float32 codes ``(B, h, w, D)`` of indices ``(B, h, w, 1)``.

        Raises:
            ShapeError: if an index lies outside the codebook.
        """
        size = self.codebook.shape[0]
        if indices.shape[-1:] != (1,) or bool(((indices < 0) | (indices >= size)).any()):
            raise ShapeError(
                f"indices of shape {tuple(indices.shape)} given; expected (..., 1) from 0 to "
                f"{size - 1}"
            )
        return F.embedding(indices.squeeze(-1), self.normalised(self.codebook))

    def next_input(self, total: Tensor, grid: Grid) -> Tensor:
        """Average a running sum ``(B, D, h, w)`` over the areas of the next grid."""
        return area(total, grid)

    def normalised(self, vectors: Tensor) -> Tensor:
        """Put both parts of ``(..., D)`` vectors on their unit spheres."""
        parts = torch.split(vectors, self.widths, dim=-1)
        return torch.cat([F.normalize(part, dim=-1) for part in parts], dim=-1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DualCodebook:
        """Move to a device, but keep the type when the model is cast."""

        def moved(tensor: Tensor) -> Tensor:
            new = fn(tensor)
            return tensor.to(new.device) if new.dtype != tensor.dtype else new

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self

    def _quantize(self, features: Tensor, grids: Sequence[Grid]) -> ScalesQuantized:
        return self._run(features, grids, None)

    def _run(self, features: Tensor, grids: Sequence[Grid], dropped: int | None) -> ScalesQuantized:
        rest, total = features, torch.zeros_like(features)
        chosen: list[Quantized] = []
        sums: list[Tensor] = []
        for scale, grid in enumerate(grids):
            found = self._choose(area(rest, grid).permute(0, 2, 3, 1))
            chosen.append(found)
            if scale != dropped:
                lifted = self._lift(found.z_q.permute(0, 3, 1, 2), scale, grids)
                total = total + lifted
                rest = rest - lifted.detach()
            sums.append(total)
        used = [found for scale, found in enumerate(chosen) if scale != dropped]
        indices = tuple(found.indices for found in chosen)
        return ScalesQuantized(total, indices, tuple(sums), *self._averages(used))

    def _choose(self, vectors: Tensor) -> Quantized:
        u, table = self.normalised(vectors), self.normalised(self.codebook)
        found = nearest_codes(self._weighted(u), self._weighted(table))
        codes = F.embedding(found, table)
        z_q, indices = straight_through(u, codes), found.unsqueeze(-1)
        if not self.training:
            return Quantized(z_q, indices, {}, {})
        commitment = (codes.detach() - u).square().mean()
        losses = {
            "codebook": (codes - u.detach()).square().mean(),
            "commitment": self.commitment_weight * commitment,
        }
        stats = {"commitment": commitment.detach()}
        if self.entropy is not None:
            rows = self._weighted(u).reshape(-1, self.dim)
            entropies = assignment_entropies(
                rows, self._weighted(table), self.entropy, euclidean=True
            )
            losses["entropy"], more = entropy_penalty(entropies, self.entropy)
            stats |= more
        return Quantized(z_q, indices, losses, stats)

    def _weighted(self, unit: Tensor) -> Tensor:
        """Stretch the pixel part, so that plain distances are the weighted sum of both."""
        if self.pixel_weight == 1:
            return unit
        semantic, pixel = torch.split(unit, self.widths, dim=-1)
        return torch.cat([semantic, self.pixel_weight**0.5 * pixel], dim=-1)

    def _lift(self, codes: Tensor, scale: int, grids: Sequence[Grid]) -> Tensor:
        return interpolated(codes, grids[-1], "bicubic")

    def _averages(self, used: list[Quantized]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Average losses and stats over the scales that are used."""
        if not self.training:
            return {}, {}
        losses = {k: torch.stack([f.losses[k] for f in used]).mean() for k in used[0].losses}
        stats = {k: torch.stack([f.stats[k] for f in used]).mean() for k in used[0].stats}
        hits = torch.cat([found.indices.flatten() for found in used])
        return losses, stats | usage_stats(hits, self.vocab_sizes[0])


__all__ = ["DualCodebook"]
