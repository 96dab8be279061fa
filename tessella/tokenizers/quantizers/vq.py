"""Vector quantization with a codebook trained by gradients (VQ-VAE, arXiv 1711.00937).

    k = argmin_k |u - e_k|^2,   c = e_k
    loss = w_codebook mean((c - sg u)^2) + w_commitment mean((sg c - u)^2)

``beta`` stands on either side in published code: taming-transformers' legacy mode (and with it all
its checkpoints, and diffusers) is ``codebook_weight=0.25, commitment_weight=1``; the paper's
placement is the default here. The values agree, the gradients do not.

``cosine`` puts both sides on the unit sphere (arXiv 2110.04627); the output is the *normalised*
code and gradients pass both normalisations (LlamaGen, arXiv 2406.06525).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tessella.tokenizers.quantizers.base import Quantized, Quantizer
from tessella.tokenizers.quantizers.entropy import EntropyConfig, entropy_penalty
from tessella.tokenizers.quantizers.estimators import rotate_to, straight_through
from tessella.tokenizers.quantizers.nearest import match_codes, nearest_codes
from tessella.tokenizers.quantizers.soft_assignment import assignment_entropies
from tessella.tokenizers.quantizers.usage import usage_stats


class VQ(Quantizer):
    """Nearest code of a learned table ``codebook`` (K, D).

    Args:
        dim: width ``D``.
        codebook_size: ``K``.
        cosine: whether vectors and codes are normalised first.
        codebook_weight: factor of the term that moves codes to vectors.
        commitment_weight: factor of the term that moves vectors to codes.
        joint_weight: factor of ``mean((u - c)^2)`` without stop-gradient, an alternative to the
            two terms above (set those to 0).
        rotation: whether gradients take the rotation trick in place of straight-through.
        entropy: optional penalty on ``softmax(-|u - e|^2 / T)``; None leaves it out.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        cosine: bool = False,
        codebook_weight: float = 1.0,
        commitment_weight: float = 0.25,
        joint_weight: float = 0.0,
        rotation: bool = False,
        entropy: EntropyConfig | None = None,
    ) -> None:
        super().__init__(dim, (codebook_size,))
        self.cosine = cosine
        self.codebook_weight = codebook_weight
        self.commitment_weight = commitment_weight
        self.joint_weight = joint_weight
        self.rotation = rotation
        self.entropy = entropy
        bound = 1 / codebook_size
        self.codebook = nn.Parameter(torch.empty(codebook_size, dim).uniform_(-bound, bound))

    def extra_repr(self) -> str:
        """Name the sizes in the module's printout."""
        return f"dim={self.dim}, codebook_size={self.vocab_sizes[0]}, cosine={self.cosine}"

    def _quantize(self, z: Tensor, generator: torch.Generator | None) -> Quantized:
        u, table = self._normalized(z), self._table()
        indices = nearest_codes(u, table)
        codes = nn.functional.embedding(indices, table)
        z_q = rotate_to(u, codes) if self.rotation else straight_through(u, codes)
        if not self.training:
            return Quantized(z_q, indices.unsqueeze(-1), {}, {})
        losses, stats = self._losses(u, codes, table)
        stats |= usage_stats(indices, self.vocab_sizes[0])
        return Quantized(z_q, indices.unsqueeze(-1), losses, stats)

    def _losses(
        self, u: Tensor, codes: Tensor, table: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        losses: dict[str, Tensor] = {}
        if self.codebook_weight:
            losses["codebook"] = self.codebook_weight * (codes - u.detach()).square().mean()
        if self.commitment_weight:
            losses["commitment"] = self.commitment_weight * (codes.detach() - u).square().mean()
        if self.joint_weight:
            losses["joint"] = self.joint_weight * (codes - u).square().mean()
        stats = {"commitment": (codes - u).detach().square().mean()}
        if self.entropy is not None:
            entropies = assignment_entropies(
                u.reshape(-1, self.dim), table, self.entropy, euclidean=True
            )
            losses["entropy"], more = entropy_penalty(entropies, self.entropy)
            stats |= more
        return losses, stats

    def _normalized(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors, dim=-1) if self.cosine else vectors

    def _table(self) -> Tensor:
        return self._normalized(self.codebook.float())

    def _decode(self, indices: Tensor) -> Tensor:
        return nn.functional.embedding(indices.squeeze(-1), self._table())

    def _index(self, codes: Tensor) -> Tensor:
        return match_codes(codes, self._table()).unsqueeze(-1)


__all__ = ["VQ"]
