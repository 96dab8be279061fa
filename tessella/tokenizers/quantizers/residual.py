"""Residual quantization (SoundStream, arXiv 2107.03312; RQ-VAE, arXiv 2203.01941).

    r_0 = u;   c_q = Q_q(r_q),   r_{q+1} = r_q - sg(c_q);   output sum_q c_q

Each level is any quantizer of the same width. Because every residual subtracts a *detached* code,
the sum of the levels' straight-through outputs has the Jacobian ``Q I``: the encoder would see a
Q-fold gradient. The default is one straight-through step over the whole stack (``ste="once"``);
``"per_level"`` is the published libraries' form.

Truncated tokens decode: index -1, or fewer indices than levels, leaves those levels out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers.quantizers.base import Quantized, Quantizer
from tessella.tokenizers.quantizers.distributed import broadcast_draw
from tessella.tokenizers.quantizers.ema_vq import EMAVQ
from tessella.tokenizers.quantizers.estimators import straight_through
from tessella.tokenizers.quantizers.fsq import FSQ
from tessella.tokenizers.quantizers.lfq import LFQ

Estimator = Literal["once", "per_level"]


@dataclass(frozen=True, slots=True)
class LevelDropout:
    """Training with a random number of levels, so that prefixes decode well.

    Args:
        min_levels: fewest levels in use; the number is uniform from here to all.
        multiple_of: the number drawn is rounded up to a multiple of this.
    """

    min_levels: int = 1
    multiple_of: int = 1

    def __post_init__(self) -> None:
        if self.min_levels < 1 or self.multiple_of < 1:
            raise ConfigError(f"{self} given; expected both at least 1")


class ResidualQuantizer(Quantizer):
    """A stack of quantizers, each on what the levels before it left over.

    ``losses`` are sums over levels; ``stats["level_losses"]`` holds each level's weighted total.

    Args:
        levels: one quantizer a level, coarse first; or a single one with ``num_levels``.
        num_levels: how often a single, shared quantizer is applied. A shared :class:`EMAVQ` keeps
            its table during the step: counts and sums are folded level by level, then the table
            is recomputed once and dead codes are replaced from all residuals.
        ste: see above.
        dropout: random number of levels in training; dropped levels get index -1.
        soft_clamp: ``v`` of ``u <- v tanh(u / v)`` per channel before the first level.
    """

    def __init__(
        self,
        levels: Sequence[Quantizer],
        *,
        num_levels: int | None = None,
        ste: Estimator = "once",
        dropout: LevelDropout | None = None,
        soft_clamp: Sequence[float] | None = None,
    ) -> None:
        _check_levels(levels, num_levels, ste)
        depth = num_levels if num_levels is not None else len(levels)
        stack = list(levels) * (depth if num_levels is not None else 1)
        super().__init__(levels[0].dim, tuple(v for level in stack for v in level.vocab_sizes))
        if dropout is not None and dropout.min_levels > depth:
            raise ConfigError(f"{dropout} given for {depth} levels; expected at most all of them")
        if soft_clamp is not None and len(soft_clamp) != self.dim:
            raise ConfigError(f"{len(soft_clamp)} soft_clamp values given; expected {self.dim}")
        self.levels = nn.ModuleList(levels)
        self.depth = depth
        self.ste: Estimator = ste
        self.dropout = dropout
        self.soft_clamp = tuple(soft_clamp) if soft_clamp is not None else None
        self.allows_missing = True

    def level(self, q: int) -> Quantizer:
        """Return the quantizer of level ``q``."""
        level = self.levels[q if len(self.levels) > 1 else 0]
        if not isinstance(level, Quantizer):
            raise TypeError(f"level {q} is a {type(level).__name__}")
        return level

    def level_codes(self, indices: Tensor) -> Tensor:
        """Return every level's codes ``(Q, ..., D)``; zero for levels that are left out.

        Raises:
            ShapeError: if the indices do not fit.
        """
        indices = self._checked_indices(indices)
        pieces = self._split(indices)
        codes = [self._level_codes(q, piece) for q, piece in enumerate(pieces)]
        blank = indices.new_zeros((*indices.shape[:-1], self.dim), dtype=torch.float32)
        return torch.stack(codes + [blank] * (self.depth - len(codes)))

    def _quantize(self, z: Tensor, generator: torch.Generator | None) -> Quantized:
        u = self._clamped(z)
        active = self._draw_depth(z.device, generator)
        shared = self._shared_ema()
        if shared is not None and self.training:
            shared.initialise(u, generator=generator)
        residual, total, outs, inputs = u, torch.zeros_like(u), [], []
        for q in range(active):
            level = self.level(q)
            out: Quantized = (
                shared.assign(residual)
                if shared is not None
                else level(residual, generator=generator)
            )
            outs.append(out)
            inputs.append(residual.detach())
            total = total + (out.z_q if self.ste == "per_level" else out.z_q.detach())
            residual = residual - out.z_q.detach()
        if shared is not None and self.training:
            _update_shared(shared, inputs, outs, generator)
        z_q = total if self.ste == "per_level" else straight_through(u, total)
        indices = self._padded(torch.cat([out.indices for out in outs], dim=-1))
        return Quantized(z_q, indices, *_joined(outs, self.depth))

    def _clamped(self, z: Tensor) -> Tensor:
        if self.soft_clamp is None:
            return z
        limit = z.new_tensor(self.soft_clamp)
        return torch.tanh(z / limit) * limit

    def _draw_depth(self, device: torch.device, generator: torch.Generator | None) -> int:
        """Choose how many levels to use, the same number in every process."""
        if self.dropout is None or not self.training:
            return self.depth
        low, step = self.dropout.min_levels, self.dropout.multiple_of
        source = generator.device if generator is not None else None
        drawn = torch.randint(low, self.depth + 1, (1,), generator=generator, device=source)
        count = int(broadcast_draw(drawn.to(device)))
        return min(self.depth, -(-count // step) * step)

    def _shared_ema(self) -> EMAVQ | None:
        level = self.level(0)
        return level if len(self.levels) < self.depth and isinstance(level, EMAVQ) else None

    def _padded(self, indices: Tensor) -> Tensor:
        return nn.functional.pad(indices, (0, self.groups - indices.shape[-1]), value=-1)

    def _split(self, indices: Tensor) -> list[Tensor]:
        """Cut ``(..., <= G)`` into the given levels' parts."""
        pieces, start = [], 0
        for q in range(self.depth):
            if start == indices.shape[-1]:
                break
            width = self.level(q).groups
            if start + width > indices.shape[-1]:
                raise ShapeError(
                    f"{indices.shape[-1]} indices a token given; level {q} needs {width} of them"
                )
            pieces.append(indices[..., start : start + width])
            start += width
        return pieces

    def _level_codes(self, q: int, indices: Tensor) -> Tensor:
        present = (indices >= 0).all(dim=-1, keepdim=True)
        return self.level(q).indices_to_codes(indices.clamp_min(0)) * present

    def _decode(self, indices: Tensor) -> Tensor:
        total = indices.new_zeros((*indices.shape[:-1], self.dim), dtype=torch.float32)
        for q, piece in enumerate(self._split(indices)):
            total = total + self._level_codes(q, piece)
        return total

    def _index(self, codes: Tensor) -> Tensor:
        """Find indices level by level; a greedy search need not recover sums of any codebook."""
        residual, found = codes, []
        for q in range(self.depth):
            indices = self.level(q).codes_to_indices(residual)
            residual = residual - self.level(q).indices_to_codes(indices)
            found.append(indices)
        if codes.numel() and float(residual.abs().max()) > 1e-4 * float(codes.abs().max()):
            raise ShapeError(
                f"sums of codes given that {self.depth} levels do not reproduce (error "
                f"{float(residual.abs().max()):.3g}): they are no sums of codes, or not unique; "
                "keep the indices that forward() returned"
            )
        return torch.cat(found, dim=-1)


def residual_lfq(group_bits: int, num_levels: int, *, ste: Estimator = "once") -> ResidualQuantizer:
    """Build residual LFQ: level q has the codes ``+-2^-q``."""
    return ResidualQuantizer([LFQ(group_bits, scale=2.0**-q) for q in range(num_levels)], ste=ste)


def residual_fsq(
    levels: Sequence[int], num_levels: int, *, ste: Estimator = "once"
) -> ResidualQuantizer:
    """Build residual FSQ: level q is a clamped symmetric FSQ of magnitude ``L^-q`` a channel.

    The input passes ``v tanh(u / v)`` with ``v = 1 + 1/(L-1)`` first.

    Args:
        levels: number of FSQ levels of each channel.
        num_levels: depth of the stack.
        ste: see :class:`ResidualQuantizer`.
    """
    stack = [
        FSQ(levels, bound="clamped", scale=[float(n) ** -q for n in levels])
        for q in range(num_levels)
    ]
    return ResidualQuantizer(stack, ste=ste, soft_clamp=[1 + 1 / (n - 1) for n in levels])


def _update_shared(
    shared: EMAVQ,
    inputs: list[Tensor],
    outs: list[Quantized],
    generator: torch.Generator | None,
) -> None:
    for residual, out in zip(inputs, outs, strict=True):
        shared.fold(residual, out.indices)
    # token by token, so that a sample of the joint batch does not depend on how it was split
    shared.refresh(torch.stack(inputs, dim=-2), generator=generator)


def _joined(outs: list[Quantized], depth: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Sum the levels' losses; stats are averaged, and each level's total is kept."""
    losses: dict[str, Tensor] = {}
    stats: dict[str, Tensor] = {}
    for out in outs:
        for name, value in out.losses.items():
            losses[name] = losses[name] + value if name in losses else value
        for name, value in out.stats.items():
            share = value / len(outs)
            stats[name] = stats[name] + share if name in stats else share
    if losses:
        totals = torch.stack([out.loss.detach() for out in outs])
        stats["level_losses"] = nn.functional.pad(totals, (0, depth - len(outs)))
    return losses, stats


def _check_levels(levels: Sequence[Quantizer], num_levels: int | None, ste: str) -> None:
    if not levels or len({level.dim for level in levels}) != 1:
        raise ConfigError(
            f"levels of widths {[level.dim for level in levels]} given; expected one or more "
            "quantizers of one width"
        )
    if num_levels is not None and (len(levels) != 1 or num_levels < 1):
        raise ConfigError(
            f"num_levels={num_levels} with {len(levels)} quantizers given; expected a single "
            "quantizer to share and at least 1"
        )
    if len({id(level) for level in levels}) != len(levels):
        raise ConfigError("one module given as several levels; share it with num_levels")
    if ste not in ("once", "per_level"):
        raise ConfigError(f"ste={ste!r} given; expected 'once' or 'per_level'")


__all__ = ["Estimator", "LevelDropout", "ResidualQuantizer", "residual_fsq", "residual_lfq"]
