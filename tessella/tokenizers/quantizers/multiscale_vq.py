"""VAR's multi-scale residual quantizer (arXiv 2404.02905, algorithms 1 and 2).

    r_k = nearest code of area(rest),   lift_k(e) = phi_k(bicubic(e -> h x w))
    loss = mean over scales of  mse(sum_k, sg f) + beta mse(sg sum_k, f)

One codebook serves all scales. Codes that hardly any scale hits can be replaced, in training, by
vectors of the batch (as in arXiv 2107.03312; not part of VAR). phi stands after the interpolation,
at the last scale too. Weights stay float32 when the model is cast: they are what tokens mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from tessella.errors import ShapeError
from tessella.tokenizers.layers.phi import PhiConvolutions
from tessella.tokenizers.layers.resampling import Grid, area, interpolated
from tessella.tokenizers.quantizers.base import Quantized
from tessella.tokenizers.quantizers.distributed import all_sum, sample_rows, world_size
from tessella.tokenizers.quantizers.estimators import straight_through
from tessella.tokenizers.quantizers.hit_averages import HitAverages
from tessella.tokenizers.quantizers.multiscale import MultiScaleQuantizer, ScalesQuantized
from tessella.tokenizers.quantizers.nearest import nearest_codes
from tessella.tokenizers.quantizers.usage import usage_stats


class MultiScaleVQ(MultiScaleQuantizer):
    """Nearest codes of one table at every scale.

    Args:
        dim: width ``D``.
        codebook_size: ``K``.
        scales: number of scales of training, whose hits are counted.
        phis: number of shared convolutions.
        phi_ratio: share of the convolution in phi; 0 is the identity.
        cosine: compare directions only; the code that is added keeps its length.
        commitment_weight: ``beta``.
        revive_below: codes whose average hits over all scales are below this share of an equal
            share are replaced; 0 for never.
    """

    def __init__(  # the numbers of the quantizer
        self,
        dim: int,
        codebook_size: int,
        *,
        scales: int,
        phis: int = 4,
        phi_ratio: float = 0.5,
        cosine: bool = False,
        commitment_weight: float = 0.25,
        revive_below: float = 0.0,
    ) -> None:
        super().__init__(dim, (codebook_size,))
        self.revive_below = revive_below
        self._seen: list[Tensor] = []
        self.cosine = cosine
        self.commitment_weight = commitment_weight
        bound = 1 / codebook_size
        self.codebook = nn.Parameter(torch.empty(codebook_size, dim).uniform_(-bound, bound))
        self.phi = PhiConvolutions(dim, phis, phi_ratio)
        self.averages = HitAverages(scales, codebook_size)

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
        return nn.functional.embedding(indices.squeeze(-1), self.codebook)

    def next_input(self, total: Tensor, grid: Grid) -> Tensor:
        """Average a running sum ``(B, D, h, w)`` over the areas of the next grid."""
        return area(total, grid)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MultiScaleVQ:
        """Move to a device, but keep the type when the model is cast."""

        def moved(tensor: Tensor) -> Tensor:
            new = fn(tensor)
            return tensor.to(new.device) if new.dtype != tensor.dtype else new

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self

    def _choose(self, vectors: Tensor) -> Quantized:
        table = self.codebook
        if self.cosine:
            vectors = nn.functional.normalize(vectors, dim=-1)
            found = nearest_codes(vectors, nn.functional.normalize(table, dim=-1), metric="dot")
        else:
            found = nearest_codes(vectors, table)
        if self.training and self.revive_below:
            self._seen.append(vectors.detach().flatten(0, -2))
        return Quantized(nn.functional.embedding(found, table), found.unsqueeze(-1), {}, {})

    def _lift(self, codes: Tensor, scale: int, grids: Sequence[Grid]) -> Tensor:
        up = interpolated(codes, grids[-1], "bicubic")
        return cast(Tensor, self.phi(up, scale, len(grids)))

    def _quantize(self, features: Tensor, grids: Sequence[Grid]) -> ScalesQuantized:
        self._seen = []
        chosen, sums = self._descend(features, grids)
        indices = tuple(found.indices for found in chosen)
        if not self.training:
            return ScalesQuantized(sums[-1], indices, sums, {}, {})
        pull = [nn.functional.mse_loss(total, features.detach()) for total in sums]
        push = [nn.functional.mse_loss(total.detach(), features) for total in sums]
        commitment = torch.stack(push).mean()
        losses = {
            "codebook": torch.stack(pull).mean(),
            "commitment": self.commitment_weight * commitment,
        }
        stats = {"commitment": commitment.detach()}
        stats |= usage_stats(torch.cat([i.flatten() for i in indices]), self.vocab_sizes[0])
        stats |= self._count(indices)
        z_q = straight_through(features, sums[-1])
        return ScalesQuantized(z_q, indices, sums, losses, stats)

    def _count(self, indices: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Update the averages, where the pyramid is as deep as those of training."""
        if len(indices) != self.averages.hits.shape[0]:
            return {}
        for scale, level in enumerate(indices):
            self.averages.update(scale, level)
        if self.revive_below:
            self._revive(indices)
        usage = self.averages.usage(indices[-1].numel() * world_size())
        return {"first_scale_usage": usage[0], "last_scale_usage": usage[-1]}

    @torch.no_grad()
    def _revive(self, indices: tuple[Tensor, ...]) -> None:
        """Replace codes without use by vectors that this batch compared with the table."""
        hits = self.averages.hits.sum(dim=0)
        dead = hits < self.revive_below * hits.mean()
        count = int(dead.sum())
        if not count:
            return
        # drawn from the batch itself, so that a resumed run draws what an uninterrupted one does
        seed = int(all_sum(torch.stack([i.sum() for i in indices]).sum()))
        noise = torch.Generator().manual_seed(seed)
        rows = sample_rows(torch.cat(self._seen), count, generator=noise)
        self.codebook[dead] = rows
        # as if hit like the others, so that they get time to be
        self.averages.hits[:, dead] = (hits.mean() / len(self.averages.hits)).item()


__all__ = ["MultiScaleVQ"]
