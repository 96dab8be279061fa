"""Binary spherical quantization (arXiv 2406.07548).

    u = z / |z|,   c = sign(u) / sqrt(L),   q = (u + sg(sign(u) - u)) / sqrt(L)

The straight-through step comes before the scaling, so gradients to u carry ``1 / sqrt(L)``; the
quantization error is bounded. The first channel is the most significant bit.

    loss = w_e (E_s - E_c) + beta mean over tokens of |sg q - u|^2

The entropy of groups of s channels has sub-codebooks at ``+-1/sqrt(L)``: ``marginal="exact"`` is
the authors' grouped form, ``"bitwise"`` their analytic one; their ``zeta / inv_temperature`` is
``EntropyConfig.weight`` with ``temperature = 1 / inv_temperature``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tessella.tokenizers.quantizers.base import Quantized
from tessella.tokenizers.quantizers.binary import BinaryQuantizer
from tessella.tokenizers.quantizers.entropy import EntropyConfig
from tessella.tokenizers.quantizers.estimators import straight_through

BSQ_ENTROPY = EntropyConfig(temperature=1.0, reduction="per_group_sum", log_eps=1e-8)


class BSQ(BinaryQuantizer):
    """Signs of a unit vector, scaled back to the unit sphere.

    Args:
        groups: number of groups that the ``L = groups * group_bits`` channels fall into, for the
            indices and the entropy.
        group_bits: bits ``s`` of a group.
        normalize: whether ``z`` is normalised here; False when the caller has done it.
        entropy: the entropy penalty.
        commitment_weight: ``beta``; the sum over channels makes it L times a mean's.
    """

    def __init__(
        self,
        groups: int,
        group_bits: int,
        *,
        normalize: bool = True,
        entropy: EntropyConfig = BSQ_ENTROPY,
        commitment_weight: float = 0.0,
    ) -> None:
        super().__init__(
            groups,
            group_bits,
            bit_order="msb",
            entropy=entropy,
            code_scale=1 / math.sqrt(groups * group_bits),
        )
        self.normalize = normalize
        self.commitment_weight = commitment_weight

    def _quantize(self, z: Tensor, generator: torch.Generator | None) -> Quantized:
        u = nn.functional.normalize(z, dim=-1) if self.normalize else z
        signs = self._signs(u)
        z_q = straight_through(u, signs) * self.code_scale
        indices = self._index(signs)
        if not self.training:
            return Quantized(z_q, indices, {}, {})
        penalty, stats = self._entropy_terms(u, self.code_scale)
        commitment = (z_q.detach() - u).square().sum(dim=-1).mean()
        stats["commitment"] = commitment.detach()
        losses = {"entropy": penalty, "commitment": self.commitment_weight * commitment}
        return Quantized(z_q, indices, losses, stats)


__all__ = ["BSQ", "BSQ_ENTROPY"]
