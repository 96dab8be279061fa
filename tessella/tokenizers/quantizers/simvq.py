"""SimVQ (arXiv 2411.02038): a frozen random table seen through one learned linear map.

    E = F W^T,   loss = w_codebook mean((c - sg u)^2) + w_commitment mean((sg c - u)^2)

Every step moves all codes together, so usage stays high.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tessella.tokenizers.quantizers.base import Quantized, Quantizer
from tessella.tokenizers.quantizers.estimators import rotate_to, straight_through
from tessella.tokenizers.quantizers.nearest import match_codes, nearest_codes
from tessella.tokenizers.quantizers.usage import usage_stats


class SimVQ(Quantizer):
    """Nearest code of ``code_transform(frozen_codebook)``.

    Args:
        dim: width ``D``.
        codebook_size: ``K``.
        frozen_dim: width of the frozen Gaussian table; None is ``dim``.
        codebook_weight: factor of the term that moves codes to vectors.
        commitment_weight: factor of the term that moves vectors to codes.
        rotation: whether gradients take the rotation trick in place of straight-through.
    """

    frozen_codebook: Tensor

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        frozen_dim: int | None = None,
        codebook_weight: float = 1.0,
        commitment_weight: float = 0.25,
        rotation: bool = False,
    ) -> None:
        super().__init__(dim, (codebook_size,))
        width = frozen_dim if frozen_dim is not None else dim
        self.codebook_weight = codebook_weight
        self.commitment_weight = commitment_weight
        self.rotation = rotation
        # std width^-1/2: with unit variance the initial codes are far longer than the vectors
        self.register_buffer("frozen_codebook", torch.randn(codebook_size, width) * width**-0.5)
        self.code_transform = nn.Linear(width, dim, bias=False)

    def extra_repr(self) -> str:
        """Name the sizes in the module's printout."""
        return f"dim={self.dim}, codebook_size={self.vocab_sizes[0]}"

    def table(self) -> Tensor:
        """Return the codes ``(K, D)`` with gradient to the map."""
        return nn.functional.linear(
            self.frozen_codebook.float(), self.code_transform.weight.float()
        )

    def _quantize(self, z: Tensor, generator: torch.Generator | None) -> Quantized:
        table = self.table()
        indices = nearest_codes(z, table)
        codes = nn.functional.embedding(indices, table)
        z_q = rotate_to(z, codes) if self.rotation else straight_through(z, codes)
        if not self.training:
            return Quantized(z_q, indices.unsqueeze(-1), {}, {})
        losses = {
            "codebook": self.codebook_weight * (codes - z.detach()).square().mean(),
            "commitment": self.commitment_weight * (codes.detach() - z).square().mean(),
        }
        stats = {
            "commitment": (codes - z).detach().square().mean(),
            **usage_stats(indices, self.vocab_sizes[0]),
        }
        return Quantized(z_q, indices.unsqueeze(-1), losses, stats)

    # the whole table even for few indices: a product of other shape may round differently
    def _decode(self, indices: Tensor) -> Tensor:
        return nn.functional.embedding(indices.squeeze(-1), self.table())

    def _index(self, codes: Tensor) -> Tensor:
        return match_codes(codes, self.table()).unsqueeze(-1)


__all__ = ["SimVQ"]
