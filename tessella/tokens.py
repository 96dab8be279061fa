"""Tokens and their layout: the one value that flows through every part of the library.

A picture becomes a tuple of *levels*, most important first. A discrete level is an integer tensor
``(B, *grid, G)``; a continuous one is a float tensor ``(B, *grid, C)``. ``grid`` is ``(h, w)`` for
maps and ``(n,)`` for sequences; ``G`` is the number of groups (1 for plain VQ).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from tessella.errors import ShapeError

OrderedAxis = Literal["none", "groups", "length"]

ABSENT = -1  # stands where a position of a ragged level keeps fewer groups than others

_CONTINUOUS_BITS = 32


@dataclass(frozen=True, slots=True)
class LevelLayout:
    """Shape and alphabet of one level.

    Args:
        grid: ``(h, w)`` of a map or ``(n,)`` of a sequence.
        vocab_sizes: alphabet of each of the ``G`` groups; empty for a continuous level.
        channels: ``C`` of a continuous level; 0 for a discrete one.
        ordered: the axis whose tail may be dropped: ``"groups"``, ``"length"`` or ``"none"``.
        is_ragged: whether positions may keep fewer groups than others. Where they do, their last
            groups are :data:`ABSENT`; the first group is always there.
    """

    grid: tuple[int, ...]
    vocab_sizes: tuple[int, ...] = ()
    channels: int = 0
    ordered: OrderedAxis = "none"
    is_ragged: bool = False

    def __post_init__(self) -> None:
        if len(self.grid) not in (1, 2) or min(self.grid) < 1:
            raise ShapeError(f"grid {self.grid} given; expected (h, w) or (n,), all at least 1")
        if bool(self.vocab_sizes) == bool(self.channels):
            raise ShapeError(
                f"vocab_sizes={self.vocab_sizes}, channels={self.channels} given; "
                "expected vocab_sizes for a discrete level or channels for a continuous one"
            )
        if any(size < 2 for size in self.vocab_sizes) or self.channels < 0:
            raise ShapeError(f"vocab_sizes {self.vocab_sizes} given; expected at least 2 each")
        if self.ordered not in ("none", "groups", "length"):
            raise ShapeError(f"ordered={self.ordered!r} given; expected none, groups or length")
        if self.ordered == "length" and len(self.grid) != 1:
            raise ShapeError(f"ordered='length' needs a sequence grid (n,); {self.grid} given")
        if self.is_ragged and (self.channels or self.ordered != "groups"):
            raise ShapeError(f"{self} is ragged; only discrete levels of ordered groups can be")

    @property
    def is_continuous(self) -> bool:
        """Whether the level holds floats."""
        return self.channels > 0

    @property
    def groups(self) -> int:
        """Size of the last axis: ``G`` groups or ``C`` channels."""
        return self.channels or len(self.vocab_sizes)

    @property
    def positions(self) -> int:
        """Number of positions of the grid."""
        return math.prod(self.grid)

    @property
    def num_values(self) -> int:
        """Number of values of one picture in this level: positions times groups."""
        return self.positions * self.groups

    @property
    def bits(self) -> float:
        """Uncoded size of one picture in this level, in bits (32 per continuous value)."""
        if self.is_continuous:
            return float(self.num_values * _CONTINUOUS_BITS)
        return self.positions * sum(math.log2(size) for size in self.vocab_sizes)

    def keep_groups(self, groups: int) -> LevelLayout:
        """Return the layout of the first ``groups`` groups (or channels)."""
        if self.is_continuous:
            return replace(self, channels=groups)
        return replace(self, vocab_sizes=self.vocab_sizes[:groups])


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """What the levels of a token value look like, and where they come from.

    Args:
        levels: one :class:`LevelLayout` a level, most important first.
        image_size: ``(height, width)`` of the picture before padding, in pixels.
        tokenizer_id: identity of the token space (hexadecimal digits); empty when unknown.
    """

    levels: tuple[LevelLayout, ...]
    image_size: tuple[int, int]
    tokenizer_id: str = ""

    def __post_init__(self) -> None:
        if not self.levels:
            raise ShapeError("a token layout without levels given; expected at least one level")
        if len(self.image_size) != 2 or min(self.image_size) < 1:
            raise ShapeError(f"image_size {self.image_size} given; expected (height, width) >= 1")

    @property
    def num_values(self) -> int:
        """Number of values of one picture over all levels."""
        return sum(level.num_values for level in self.levels)

    @property
    def bits(self) -> float:
        """Uncoded size of one picture, in bits."""
        return sum(level.bits for level in self.levels)

    def truncate(
        self,
        *,
        levels: int | None = None,
        length: int | None = None,
        groups: int | None = None,
    ) -> TokenLayout:
        """Return the layout that :meth:`Tokens.truncate` leaves for the same arguments."""
        kept = self.levels
        if levels is not None:
            _check_count("levels", levels, len(kept))
            kept = kept[:levels]
        if length is not None:
            kept = tuple(_keep_length(level, length) for level in kept)
        if groups is not None:
            kept = tuple(_keep_groups(level, groups) for level in kept)
        return replace(self, levels=kept)


def _check_count(what: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise ShapeError(f"{what}={value} given; expected 1 to {most}")


def _keep_length(level: LevelLayout, length: int) -> LevelLayout:
    if level.ordered != "length":
        raise ShapeError(f"length={length} given for a level whose length is not ordered: {level}")
    _check_count("length", length, level.grid[0])
    return replace(level, grid=(length,))


def _keep_groups(level: LevelLayout, groups: int) -> LevelLayout:
    if level.ordered != "groups":
        raise ShapeError(f"groups={groups} given for a level whose groups are not ordered: {level}")
    _check_count("groups", groups, level.groups)
    return level.keep_groups(groups)


class Tokens:
    """An immutable batch of tokenized pictures.

    Args:
        levels: one tensor a level, ``(B, *grid, G)``; integers are kept as int64.
        layout: what the levels must look like.

    Raises:
        ShapeError: if a level's shape or kind differs from the layout.

    Example:
        >>> layout = TokenLayout((LevelLayout((2, 3), (256, 256), ordered="groups"),), (16, 24))
        >>> tokens = Tokens((torch.zeros(1, 2, 3, 2, dtype=torch.int64),), layout)
        >>> tokens.truncate(groups=1).bits
        48.0
    """

    __slots__ = ("_layout", "_levels")

    def __init__(self, levels: Iterable[torch.Tensor], layout: TokenLayout) -> None:
        tensors = tuple(levels)
        if len(tensors) != len(layout.levels):
            raise ShapeError(f"{len(tensors)} levels given; the layout has {len(layout.levels)}")
        batch = tensors[0].shape[0] if tensors[0].ndim else 0
        self._levels = tuple(
            _checked_level(i, tensor, level, batch)
            for i, (tensor, level) in enumerate(zip(tensors, layout.levels, strict=True))
        )
        self._layout = layout

    @property
    def levels(self) -> tuple[torch.Tensor, ...]:
        """The level tensors; do not write to them."""
        return self._levels

    @property
    def layout(self) -> TokenLayout:
        """The layout of every picture of the batch."""
        return self._layout

    @property
    def batch_size(self) -> int:
        """Number of pictures."""
        return self._levels[0].shape[0]

    @property
    def bits(self) -> float:
        """Uncoded size of one picture, in bits."""
        return self._layout.bits

    @property
    def num_values(self) -> int:
        """Number of values of a picture, without absent ones; the mean over a ragged batch."""
        missing = 0
        for tensor, level in zip(self._levels, self._layout.levels, strict=True):
            if level.is_ragged:
                missing += int((tensor == ABSENT).sum())
        return self._layout.num_values - missing // max(self.batch_size, 1)

    @property
    def device(self) -> torch.device:
        """The device of the levels."""
        return self._levels[0].device

    def __len__(self) -> int:
        return self.batch_size

    def __getitem__(self, index: int | slice | Sequence[int] | torch.Tensor) -> Tokens:
        """Select pictures of the batch; an integer keeps a batch of one."""
        if isinstance(index, int):
            if not -self.batch_size <= index < self.batch_size:
                raise IndexError(f"picture {index} of a batch of {self.batch_size}")
            index = slice(index, index + 1 or None)
        elif not isinstance(index, (slice, torch.Tensor)):
            index = torch.as_tensor(list(index), dtype=torch.int64)
        return Tokens((level[index] for level in self._levels), self._layout)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokens):
            return NotImplemented
        return self._layout == other._layout and all(
            torch.equal(a.cpu(), b.cpu()) for a, b in zip(self._levels, other._levels, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]  # compared by value, like a tensor

    def __repr__(self) -> str:
        shapes = ", ".join(
            f"{'x'.join(map(str, level.grid))}x{level.groups}" for level in self._layout.levels
        )
        return f"Tokens(batch={self.batch_size}, levels=[{shapes}], bits={self.bits:g})"

    def to(self, device: torch.device | str) -> Tokens:
        """Return the tokens on another device."""
        return Tokens((level.to(device) for level in self._levels), self._layout)

    def truncate(
        self,
        *,
        levels: int | None = None,
        length: int | None = None,
        groups: int | None = None,
    ) -> Tokens:
        """Drop the least important tail: keep the first levels, positions or groups.

        Raises:
            ShapeError: if the count is out of range or that axis is not ordered.
        """
        layout = self._layout.truncate(levels=levels, length=length, groups=groups)
        kept = []
        for tensor, level in zip(self._levels, layout.levels, strict=False):
            if len(level.grid) == 1:
                tensor = tensor[:, : level.grid[0]]
            kept.append(tensor[..., : level.groups])
        return Tokens(kept, layout)

    def group_counts(self) -> torch.Tensor:
        """Return how many groups (or channels) each position of the first level keeps.

        Returns:
            ``(B, *grid)`` int64, from 1 to G; all G unless the level is ragged.
        """
        level = self._levels[0]
        if self._layout.levels[0].is_ragged:
            return (level != ABSENT).sum(dim=-1)
        return torch.full(level.shape[:-1], level.shape[-1], device=level.device)

    def keep_groups(self, counts: torch.Tensor) -> Tokens:
        """Keep the first few groups of each position; the rest become :data:`ABSENT`.

        Args:
            counts: ``(B, *grid)`` or ``(*grid)`` integers, 1 to G; a position that keeps fewer
                already stays as it is.

        Raises:
            ShapeError: if there is more than one level, its groups are not ordered or continuous,
                or the counts do not fit.
        """
        level = self._layout.levels[0]
        if len(self._levels) > 1 or level.is_continuous or level.ordered != "groups":
            raise ShapeError(
                f"counts of groups given for {self!r}; expected one discrete level whose groups "
                "are ordered"
            )
        fits = tuple(counts.shape) in (level.grid, (len(self), *level.grid))
        is_count = not counts.is_floating_point() and bool((counts >= 1).all())
        if not fits or not is_count or int(counts.max()) > level.groups:
            raise ShapeError(
                f"counts of shape {tuple(counts.shape)} given; expected {level.grid} integers "
                f"from 1 to {level.groups}"
            )
        most = int(counts.max())
        index = torch.arange(most, device=self.device)
        is_kept = index < counts.to(self.device)[..., None]
        values = torch.where(is_kept, self._levels[0][..., :most], ABSENT)
        ragged = replace(level.keep_groups(most), is_ragged=True)
        return Tokens((values,), replace(self._layout, levels=(ragged,)))

    def flatten(self) -> torch.Tensor:
        """Return one sequence ``(B, num_values)``: level by level, raster order, group innermost.

        Raises:
            ShapeError: if discrete and continuous levels are mixed.
        """
        if len({level.is_continuous for level in self._layout.levels}) > 1:
            raise ShapeError("discrete and continuous levels given; flatten them separately")
        return torch.cat([level.flatten(1) for level in self._levels], dim=1)

    @classmethod
    def unflatten(cls, layout: TokenLayout, flat: torch.Tensor) -> Tokens:
        """Rebuild tokens from :meth:`flatten`'s sequence ``(B, num_values)``."""
        if flat.ndim != 2 or flat.shape[1] != layout.num_values:
            raise ShapeError(
                f"a sequence of shape {tuple(flat.shape)} given; "
                f"expected (B, {layout.num_values}) for this layout"
            )
        parts = torch.split(flat, [level.num_values for level in layout.levels], dim=1)
        return cls(
            (
                part.reshape(flat.shape[0], *level.grid, level.groups)
                for part, level in zip(parts, layout.levels, strict=True)
            ),
            layout,
        )

    @classmethod
    def cat(cls, batches: Sequence[Tokens]) -> Tokens:
        """Join batches of one layout along the batch axis."""
        if not batches or any(batch.layout != batches[0].layout for batch in batches):
            raise ShapeError("batches of unlike layouts (or none) given; expected one layout")
        return cls(
            (torch.cat(levels) for levels in zip(*(b.levels for b in batches), strict=True)),
            batches[0].layout,
        )

    def check_range(self) -> None:
        """Check that every index lies in its alphabet and every float is finite.

        Raises:
            ShapeError: naming the level and group of the first value that does not.
        """
        for i, (tensor, level) in enumerate(zip(self._levels, self._layout.levels, strict=True)):
            if level.is_continuous:
                if not bool(torch.isfinite(tensor).all()):
                    raise ShapeError(f"level {i} holds values that are not finite")
                continue
            sizes = torch.tensor(level.vocab_sizes, device=tensor.device)
            bad = (tensor < 0) | (tensor >= sizes)
            if level.is_ragged:  # absent is every group after an absent one, but not the first
                is_absent = tensor == ABSENT
                bad &= ~is_absent
                bad[..., 0] |= is_absent[..., 0]
                bad[..., 1:] |= is_absent[..., :-1] & ~is_absent[..., 1:]
            bad = bad.flatten(0, -2).any(dim=0)
            if bool(bad.any()):
                group = int(bad.int().argmax())
                raise ShapeError(
                    f"level {i}, group {group} holds an index outside "
                    f"0..{level.vocab_sizes[group] - 1}"
                )


def _checked_level(i: int, tensor: torch.Tensor, level: LevelLayout, batch: int) -> torch.Tensor:
    expected = (batch, *level.grid, level.groups)
    if tuple(tensor.shape) != expected:
        raise ShapeError(f"level {i} of shape {tuple(tensor.shape)} given; expected {expected}")
    if level.is_continuous != tensor.is_floating_point():
        kind = "floats" if level.is_continuous else "integers"
        raise ShapeError(f"level {i} of dtype {tensor.dtype} given; expected {kind}")
    if not level.is_continuous and (tensor.dtype == torch.bool or tensor.is_complex()):
        raise ShapeError(f"level {i} of dtype {tensor.dtype} given; expected integers")
    return tensor if level.is_continuous else tensor.to(torch.int64)


__all__ = ["ABSENT", "LevelLayout", "OrderedAxis", "TokenLayout", "Tokens"]
