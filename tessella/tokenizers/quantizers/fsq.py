"""Finite scalar quantization (arXiv 2309.15505): round every channel to a few levels.

With L levels, ``o = 1/2`` for even L and 0 for odd, three published bounds:

    paper      h = (L-1)(1-eps)/2,  b = tanh(u + tan(o/h)) h - o,     code = round(b) / (L//2)
    vqp        h = (L-1)(1+eps)/2,  b = tanh(u + atanh(o/h)) h - o,   code = round(b) / (L//2)
    symmetric  digit = floor((L-1)(tanh(u)+1)/2 + 1/2),               code = 2 digit/(L-1) - 1

"paper" is the reference notebook's, "vqp" that of vector-quantize-pytorch, "symmetric" is
arXiv 2411.19842's; "clamped" is symmetric with a hard clamp to [-1, 1] in place of tanh, for
residual levels. "paper" and "vqp" disagree on a few scalars in a thousand: a checkpoint is tied to
its bound. Rounding is half to even; there are no losses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from tessella.errors import ConfigError
from tessella.tokenizers.quantizers.base import Quantized, Quantizer
from tessella.tokenizers.quantizers.estimators import straight_through
from tessella.tokenizers.quantizers.indices import flatten_radix, unflatten_radix

Bound = Literal["paper", "vqp", "symmetric", "clamped"]


class FSQ(Quantizer):
    """One level set a channel; the first channel's digit is the least significant.

    Args:
        levels: number of levels of each channel.
        bound: see above.
        eps: the small number of the bounds "paper" and "vqp".
        factorized: False gives one index a token (alphabet: product of the levels), True one
            index a channel.
        scale: the channels' code magnitudes; vectors are divided by it first. None is 1.

    Example:
        >>> FSQ((8, 8, 8, 5, 5, 5)).vocab_sizes
        (64000,)
    """

    half_width: Tensor
    offset: Tensor
    shift: Tensor
    num_levels: Tensor
    scale: Tensor

    def __init__(
        self,
        levels: Sequence[int],
        *,
        bound: Bound = "paper",
        eps: float = 1e-3,
        factorized: bool = False,
        scale: Sequence[float] | None = None,
    ) -> None:
        self.levels = tuple(int(level) for level in levels)
        _check(self.levels, bound, scale)
        sizes = self.levels if factorized else (math.prod(self.levels),)
        super().__init__(len(self.levels), sizes)
        self.bound: Bound = bound
        self.factorized = factorized
        offset = [0.0 if level % 2 else 0.5 for level in self.levels]
        widths = [_half_width(level, bound, eps) for level in self.levels]
        ratios = [o / h for o, h in zip(offset, widths, strict=True)]
        shift = [math.tan(r) if bound == "paper" else math.atanh(r) for r in ratios]
        self._constant("half_width", widths)
        self._constant("offset", offset)
        self._constant("shift", shift)
        self._constant("num_levels", self.levels)
        self._constant("scale", scale if scale is not None else [1.0] * len(self.levels))

    def extra_repr(self) -> str:
        """Name the levels in the module's printout."""
        return f"levels={self.levels}, bound={self.bound!r}"

    def _constant(self, name: str, values: Sequence[float]) -> None:
        self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)

    def bounded(self, z: Tensor) -> Tensor:
        """Map ``(..., D)`` to level units: the value whose rounding chooses the level."""
        z = z.float() / self.scale.float()
        if self.is_symmetric:
            unit = z.clamp(-1, 1) if self.bound == "clamped" else z.tanh()
            return (self.num_levels.float() - 1) * (unit + 1) / 2
        return torch.tanh(z + self.shift.float()) * self.half_width.float() - self.offset.float()

    @property
    def is_symmetric(self) -> bool:
        """Whether levels spread evenly over [-1, 1] for even counts too."""
        return self.bound in ("symmetric", "clamped")

    def _quantize(self, z: Tensor, generator: torch.Generator | None) -> Quantized:
        bounded = self.bounded(z)
        if self.is_symmetric:
            digits = torch.floor(bounded.detach() + 0.5).to(torch.int64)
        else:
            digits = torch.round(bounded.detach()).to(torch.int64) + self._zero_digit()
        z_q = straight_through(self._codes_of(bounded, offset=0), self._digits_to_codes(digits))
        return Quantized(z_q, self._digits_to_indices(digits), {}, {})

    def _zero_digit(self) -> Tensor:
        return self.num_levels.to(torch.int64) // 2
