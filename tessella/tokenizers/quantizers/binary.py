"""Common ground of the lookup-free binary quantizers: codes are signs, indices are their bits.

Nothing here depends on 2^bits: quantizing, packing and unpacking are O(tokens x dim).
"""

from __future__ import annotations

import torch
from torch import Tensor

from tessella.errors import ConfigError
from tessella.tokenizers.quantizers.base import Quantizer
from tessella.tokenizers.quantizers.entropy import (
    EntropyConfig,
    entropy_penalty,
    factorized_entropies,
    histogram_parts,
)
from tessella.tokenizers.quantizers.indices import BitOrder, bits_to_index, index_to_signs

MAX_GROUP_BITS = 62


class BinaryQuantizer(Quantizer):
    """Signs of contiguous groups of channels; an entry of 0 counts as -1.

    Args:
        groups: number ``G`` of groups; ``dim = groups * group_bits``.
        group_bits: bits of a group's index, 1 to 62.
        bit_order: "lsb" when a group's first channel is its least significant bit.
        entropy: the entropy penalty of training.
        code_scale: magnitude ``s`` of every code channel.
    """

    def __init__(
        self,
        groups: int,
        group_bits: int,
        *,
        bit_order: BitOrder,
        entropy: EntropyConfig,
        code_scale: float = 1.0,
    ) -> None:
        if groups < 1 or not 1 <= group_bits <= MAX_GROUP_BITS:
            raise ConfigError(
                f"groups={groups}, group_bits={group_bits} given; expected at least one group "
                f"of 1 to {MAX_GROUP_BITS} bits"
            )
        if bit_order not in ("lsb", "msb"):
            raise ConfigError(f"bit_order={bit_order!r} given; expected 'lsb' or 'msb'")
        if code_scale <= 0:
            raise ConfigError(f"code_scale={code_scale} given; expected above 0")
        super().__init__(groups * group_bits, (2**group_bits,) * groups, index_order=bit_order)
        self.group_bits = group_bits
        self.bit_order: BitOrder = bit_order
        self.entropy = entropy
        self.code_scale = code_scale
        histogram_parts(group_bits, entropy.marginal)  # refuse impossible histograms now

    def extra_repr(self) -> str:
        """Name the sizes in the module's printout."""
        return f"groups={self.groups}, group_bits={self.group_bits}, bit_order={self.bit_order!r}"

    def _signs(self, z: Tensor) -> Tensor:
        """Return -1 or +1, ``(..., D)``; zero gives -1."""
        return (z > 0).to(torch.float32).mul_(2).sub_(1)

    def _grouped(self, vectors: Tensor) -> Tensor:
        """View ``(..., D)`` as ``(N, G, d)``."""
        return vectors.reshape(-1, self.groups, self.group_bits)

    def _entropy_terms(self, z: Tensor, code: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Weight the entropies of the soft assignment to codes of channel magnitude ``code``."""
        logits = self._grouped(z) * (4 * code / self.entropy.temperature)
        return entropy_penalty(factorized_entropies(logits, self.entropy), self.entropy)

    def _index(self, codes: Tensor) -> Tensor:
        bits = (codes > 0).reshape(*codes.shape[:-1], self.groups, self.group_bits)
        return bits_to_index(bits, order=self.bit_order)

    def _decode(self, indices: Tensor) -> Tensor:
        signs = index_to_signs(indices, self.group_bits, order=self.bit_order)
        return signs.flatten(-2).mul_(self.code_scale)


__all__ = ["BinaryQuantizer"]
