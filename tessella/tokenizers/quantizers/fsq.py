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

_MAX_LEVELS = 2**16


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

    def __init__(
        self,
        levels: Sequence[int],
        *,
        bound: Bound = "paper",
        eps: float = 1e-3,
        factorized: bool = False,
        scale: Sequence[float] | None = None,
    ) -> None:
        counts = tuple(int(level) for level in levels)
        scales = tuple(scale) if scale is not None else (1.0,) * len(counts)
        _check(counts, bound, scales)
        super().__init__(len(counts), counts if factorized else (math.prod(counts),))
        self.levels = counts
        self.bound: Bound = bound
        self.eps = eps
        self.factorized = factorized
        self.scale = scales

    def extra_repr(self) -> str:
        """Name the levels in the module's printout."""
        return f"levels={self.levels}, bound={self.bound!r}"

    @property
    def is_symmetric(self) -> bool:
        """Whether the levels of even counts, too, spread evenly over [-1, 1]."""
        return self.bound in ("symmetric", "clamped")

    def bounded(self, z: Tensor) -> Tensor:
        """Map ``(..., D)`` to level units: the float32 value whose rounding is the level.

        Levels are 0 to L-1 for the symmetric bounds and centred on 0 for the others.
        """
        # plain numbers rather than buffers: casting the model to half precision must not move
        # the bounds
        z = z.float() / z.new_tensor(self.scale, dtype=torch.float32)
        if self.is_symmetric:
            unit = z.clamp(-1, 1) if self.bound == "clamped" else z.tanh()
            return (z.new_tensor(self.levels) - 1) * (unit + 1) / 2
        widths, shifts, offsets = zip(*map(self._bound_of, self.levels), strict=True)
        return torch.tanh(z + z.new_tensor(shifts)) * z.new_tensor(widths) - z.new_tensor(offsets)

    def _bound_of(self, level: int) -> tuple[float, float, float]:
        """Return half width, shift and offset of the bounds "paper" and "vqp"."""
        offset = 0.0 if level % 2 else 0.5
        if self.bound == "paper":
            width = (level - 1) * (1 - self.eps) / 2
            return width, math.tan(offset / width), offset
        width = (level - 1) * (1 + self.eps) / 2
        return width, math.atanh(offset / width), offset

    def _quantize(self, z: Tensor, generator: torch.Generator | None) -> Quantized:
        bounded = self.bounded(z)
        if self.is_symmetric:
            rounded = torch.floor(bounded.detach() + 0.5)
        else:
            rounded = torch.round(bounded.detach())
        z_q = straight_through(self._units_to_codes(bounded), self._units_to_codes(rounded))
        digits = rounded.to(torch.int64) + self._lowest(rounded)
        return Quantized(z_q, self._digits_to_indices(digits), {}, {})

    def _units_to_codes(self, units: Tensor) -> Tensor:
        levels = units.new_tensor(self.levels)
        if self.is_symmetric:
            codes = units * (2 / (levels - 1)) - 1
        else:
            codes = units / torch.floor(levels / 2)
        return codes * units.new_tensor(self.scale)

    def _lowest(self, like: Tensor) -> Tensor:
        """Return what must be added to level units to count from 0."""
        starts = [0 if self.is_symmetric else level // 2 for level in self.levels]
        return torch.tensor(starts, dtype=torch.int64, device=like.device)

    def _digits_to_indices(self, digits: Tensor) -> Tensor:
        return digits if self.factorized else flatten_radix(digits, self.levels).unsqueeze(-1)

    def _decode(self, indices: Tensor) -> Tensor:
        digits = indices if self.factorized else unflatten_radix(indices.squeeze(-1), self.levels)
        return self._units_to_codes((digits - self._lowest(digits)).float())

    def _index(self, codes: Tensor) -> Tensor:
        levels = codes.new_tensor(self.levels)
        codes = codes / codes.new_tensor(self.scale)
        units = (codes + 1) * (levels - 1) / 2 if self.is_symmetric else codes * (levels // 2)
        digits = torch.round(units).to(torch.int64) + self._lowest(codes)
        return self._digits_to_indices(torch.minimum(digits.clamp_min(0), levels.long() - 1))


def _check(levels: tuple[int, ...], bound: str, scale: tuple[float, ...]) -> None:
    if not levels or min(levels) < 2 or max(levels) > _MAX_LEVELS:
        raise ConfigError(f"levels {levels} given; expected 2 to {_MAX_LEVELS} in every channel")
    if bound not in ("paper", "vqp", "symmetric", "clamped"):
        raise ConfigError(
            f"bound={bound!r} given; expected 'paper', 'vqp', 'symmetric' or 'clamped'"
        )
    if bound == "vqp" and min(levels) == 2:
        raise ConfigError(
            f"levels {levels} given with bound='vqp', whose shift explodes for 2 levels; "
            "use bound='symmetric'"
        )
    if len(scale) != len(levels) or min(scale) <= 0:
        raise ConfigError(f"scale {scale} given; expected {len(levels)} positive numbers")


__all__ = ["FSQ", "Bound"]
