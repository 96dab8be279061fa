"""Group-wise lookup-free quantization (WeTok, arXiv 2508.05599).

Channels split into ``G`` contiguous groups of ``d`` bits; the code is ``sign(z)`` and a group's
index is its bits, first channel least significant. No table exists; ``G = 1`` is LFQ and
``d = 1`` is fully bitwise.

    loss = w_e (E_s - E_c) + w_c mean((z - sg(sign z))^2)

with the entropies of :mod:`~tessella.tokenizers.quantizers.entropy` at bit logits ``4 z / T``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tessella.errors import ShapeError
from tessella.tokenizers.quantizers.base import Quantized
from tessella.tokenizers.quantizers.binary import BinaryQuantizer
from tessella.tokenizers.quantizers.entropy import EntropyConfig
from tessella.tokenizers.quantizers.estimators import straight_through
from tessella.tokenizers.quantizers.indices import bits_to_index, index_to_signs


class GQ(BinaryQuantizer):
    """Group-wise lookup-free quantizer with codes in {-1, +1}^D.

    Args:
        groups: number ``G`` of groups.
        group_bits: bits ``d`` of a group; ``D = G d``.
        entropy: the entropy penalty. ``reduction="pooled_mean"`` is the released code's,
            ``"per_group_sum"`` the paper's; their magnitudes differ by a factor of about G, so
            weights must be retuned when changing one for the other.
        commitment_weight: factor of the commitment term.

    Example:
        >>> quantizer = GQ(groups=8, group_bits=8).eval()
        >>> out = quantizer(torch.randn(2, 4, 6, 64))
        >>> out.indices.shape, quantizer.bits_per_token
        (torch.Size([2, 4, 6, 8]), 64.0)
        >>> bool((quantizer.indices_to_codes(out.indices) == out.z_q).all())
        True
    """

    def __init__(
        self,
        groups: int,
        group_bits: int,
        *,
        entropy: EntropyConfig | None = None,
        commitment_weight: float = 0.25,
    ) -> None:
        entropy = entropy if entropy is not None else EntropyConfig()
        super().__init__(groups, group_bits, bit_order="lsb", entropy=entropy)
        self.commitment_weight = commitment_weight

    def factorize(self, indices: Tensor, factorized_bits: Sequence[int]) -> tuple[Tensor, ...]:
        """Re-split the bits of a token into parts of other sizes; the codes stay the same.

        Args:
            indices: ``(..., G)``.
            factorized_bits: bits of each part, in channel order; their sum is ``D``.

        Returns:
            One ``(...)`` int64 index a part, first channel least significant.
        """
        self._check_parts(factorized_bits)
        bits = self.indices_to_codes(indices) > 0
        return tuple(
            bits_to_index(part) for part in torch.split(bits, list(factorized_bits), dim=-1)
        )

    def unfactorize(self, parts: Sequence[Tensor], factorized_bits: Sequence[int]) -> Tensor:
        """Join part indices back into group indices ``(..., G)``; inverse of :meth:`factorize`."""
        self._check_parts(factorized_bits)
        if len(parts) != len(factorized_bits):
            raise ShapeError(f"{len(parts)} parts given; expected {len(factorized_bits)}")
        planes = [index_to_signs(p, n) for p, n in zip(parts, factorized_bits, strict=True)]
        return self.codes_to_indices(torch.cat(planes, dim=-1))

    def _quantize(self, z: Tensor, generator: torch.Generator | None) -> Quantized:
        codes = self._signs(z)
        z_q = straight_through(z, codes)
        indices = self._index(codes)
        if not self.training:
            return Quantized(z_q, indices, {}, {})
        penalty, stats = self._entropy_terms(z, 1.0)
        commitment = (z - codes).square().mean()
        stats["commitment"] = commitment.detach()
        losses = {"entropy": penalty, "commitment": self.commitment_weight * commitment}
        return Quantized(z_q, indices, losses, stats)

    def _check_parts(self, factorized_bits: Sequence[int]) -> None:
        if sum(factorized_bits) != self.dim or min(factorized_bits, default=0) < 1:
            raise ShapeError(
                f"factorized_bits {tuple(factorized_bits)} given; expected positive numbers of "
                f"bits that sum to {self.dim}"
            )


__all__ = ["GQ"]
