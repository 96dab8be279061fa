"""Lookup-free quantization (MAGVIT-v2, arXiv 2310.05737), also on the unit sphere.

    c = s sign(u),   loss = w_e (E_s - g E_c) + w_c mean((u - sg c)^2)

with softmax assignments over the 2^d codes of a group, which factorise over bits. The defaults
follow vector-quantize-pytorch: first channel most significant, logarithms clamped, one histogram a
group, averages over groups. Open-MAGVIT2 (arXiv 2409.04410) is ``GQ(groups=1, ...)``.

``spherical`` normalises each group to length ``s``, and its codes are ``+-s / sqrt(d)``; the
estimator acts on the normalised vector. It is not interchangeable in training with
:class:`~tessella.tokenizers.quantizers.bsq.BSQ`, which follows the authors' code of that method.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tessella.errors import ConfigError
from tessella.tokenizers.quantizers.base import Quantized
from tessella.tokenizers.quantizers.binary import BinaryQuantizer
from tessella.tokenizers.quantizers.entropy import EntropyConfig
from tessella.tokenizers.quantizers.estimators import straight_through
from tessella.tokenizers.quantizers.indices import BitOrder

LFQ_ENTROPY = EntropyConfig(reduction="per_group_mean", log_form="clamp", log_eps=1e-5)


class LFQ(BinaryQuantizer):
    """Sign quantizer of one or more groups of bits.

    Args:
        group_bits: bits ``d`` of a group (the paper's log2 of the codebook size).
        groups: number ``G`` of groups; ``D = G d``.
        bit_order: "msb" when a group's first channel is its most significant bit.
        scale: ``s`` above.
        spherical: whether groups are normalised to length ``s`` first.
        soft_clamp: ``v`` of ``u <- v tanh(u / v)`` before everything else; None leaves it out.
        entropy: the entropy penalty.
        commitment_weight: factor of the commitment term.
    """

    def __init__(
        self,
        group_bits: int,
        groups: int = 1,
        *,
        bit_order: BitOrder = "msb",
        scale: float = 1.0,
        spherical: bool = False,
        soft_clamp: float | None = None,
        entropy: EntropyConfig = LFQ_ENTROPY,
        commitment_weight: float = 0.25,
    ) -> None:
        super().__init__(
            groups,
            group_bits,
            bit_order=bit_order,
            entropy=entropy,
            code_scale=scale / math.sqrt(group_bits) if spherical else scale,
        )
        if soft_clamp is not None and soft_clamp <= 0:
            raise ConfigError(f"soft_clamp={soft_clamp} given; expected above 0, or None")
        self.scale = scale
        self.spherical = spherical
        self.soft_clamp = soft_clamp
        self.commitment_weight = commitment_weight

    def _quantize(self, z: Tensor, generator: torch.Generator | None) -> Quantized:
        u = self._prepared(z)
        codes = self._signs(u) * self.code_scale
        z_q = straight_through(u, codes)
        indices = self._index(codes)
        if not self.training:
            return Quantized(z_q, indices, {}, {})
        penalty, stats = self._entropy_terms(u, self.code_scale)
        commitment = (u - codes).square().mean()
        stats["commitment"] = commitment.detach()
        losses = {"entropy": penalty, "commitment": self.commitment_weight * commitment}
        return Quantized(z_q, indices, losses, stats)

    def _prepared(self, z: Tensor) -> Tensor:
        if self.soft_clamp is not None:
            z = self.soft_clamp * torch.tanh(z / self.soft_clamp)
        if self.spherical:
            groups = z.reshape(*z.shape[:-1], self.groups, self.group_bits)
            z = (nn.functional.normalize(groups, dim=-1) * self.scale).flatten(-2)
        return z


__all__ = ["LFQ", "LFQ_ENTROPY"]
