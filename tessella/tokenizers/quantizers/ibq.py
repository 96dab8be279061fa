"""Index backpropagation quantization (arXiv 2412.02692).

    l_k = u . e_k,   p = softmax(l),   k* = argmax l,   a = onehot(k*) - sg(p) + p
    q = sum_k a_k e_k

forwards equals ``e_{k*}``; gradients reach every code and the vector through p. The code is the
one of the largest *dot product*, not the nearest.

    loss = w_soft mean((q - u)^2) + w_commitment mean((sg e_{k*} - u)^2)
           + w_codebook mean((e_{k*} - sg u)^2) + w_e (E_s - E_c) on softmax(l / T)

The weights follow the released code; the paper puts 0.25 on the commitment instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tessella.tokenizers.quantizers.base import Quantized, Quantizer
from tessella.tokenizers.quantizers.entropy import EntropyConfig, entropy_penalty
from tessella.tokenizers.quantizers.nearest import match_codes, nearest_codes
from tessella.tokenizers.quantizers.soft_assignment import assignment_entropies, soft_codes
from tessella.tokenizers.quantizers.usage import usage_stats

IBQ_ENTROPY = EntropyConfig(weight=0.05, temperature=0.01)


@dataclass(frozen=True, slots=True)
class IBQWeights:
    """Factors of the three quantization terms."""

    soft: float = 1.0
    commitment: float = 1.0
    codebook: float = 0.25


class IBQ(Quantizer):
    """Most aligned code of a learned table ``codebook`` (K, D).

    Args:
        dim: width ``D``.
        codebook_size: ``K``.
        weights: factors of the quantization terms.
        entropy: penalty on the assignment; None leaves it out.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        weights: IBQWeights | None = None,
        entropy: EntropyConfig | None = IBQ_ENTROPY,
    ) -> None:
        super().__init__(dim, (codebook_size,))
        self.weights = weights if weights is not None else IBQWeights()
        self.entropy = entropy
        bound = 1 / codebook_size
        self.codebook = nn.Parameter(torch.empty(codebook_size, dim).uniform_(-bound, bound))

    def extra_repr(self) -> str:
        """Name the sizes in the module's printout."""
        return f"dim={self.dim}, codebook_size={self.vocab_sizes[0]}"

    def _quantize(self, z: Tensor, generator: torch.Generator | None) -> Quantized:
        table = self.codebook.float()
        u = z.reshape(-1, self.dim)
        indices = nearest_codes(u, table, metric="dot")
        codes = nn.functional.embedding(indices, table)
        q = codes
        if torch.is_grad_enabled():  # the softmax matters to gradients alone
            soft = soft_codes(u, table)
            q = codes + (soft - soft.detach())
        shaped = indices.view(*z.shape[:-1], 1)
        if not self.training:
            return Quantized(q.view(z.shape), shaped, {}, {})
        losses, stats = self._losses(u, q, codes)
        stats |= usage_stats(indices, self.vocab_sizes[0])
        return Quantized(q.view(z.shape), shaped, losses, stats)

    def _losses(
        self, u: Tensor, q: Tensor, codes: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        losses = {
            "soft": self.weights.soft * (q - u).square().mean(),
            "commitment": self.weights.commitment * (codes.detach() - u).square().mean(),
            "codebook": self.weights.codebook * (codes - u.detach()).square().mean(),
        }
        stats = {"commitment": (codes - u).detach().square().mean()}
        if self.entropy is not None:
            entropies = assignment_entropies(
                u, self.codebook.float(), self.entropy, euclidean=False
            )
            losses["entropy"], more = entropy_penalty(entropies, self.entropy)
            stats |= more
        return losses, stats

    def _decode(self, indices: Tensor) -> Tensor:
        return nn.functional.embedding(indices.squeeze(-1), self.codebook.float())

    def _index(self, codes: Tensor) -> Tensor:
        # an exact code need not be the one most aligned with itself
        return match_codes(codes, self.codebook).unsqueeze(-1)


__all__ = ["IBQ", "IBQ_ENTROPY", "IBQWeights"]
