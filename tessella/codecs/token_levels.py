"""Between tokens (tensors with a layout) and what a token file stores (integers with levels).

Floats of a continuous level are stored as ``round(x 2^e)``; everything else is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from tessella.codecs.entropy.prior import Prior
from tessella.codecs.group_counts import Counts
from tessella.codecs.stored_layout import Part, StoredLevel
from tessella.errors import ShapeError
from tessella.tokens import ABSENT, LevelLayout, TokenLayout, Tokens

Levels = tuple[StoredLevel, ...]
Arrays = list[NDArray[np.int64]]

DEFAULT_EXPONENT = 8

_MOST_RANGE_BITS = 16
_LARGEST = 2**31 - 1


def stored_levels(layout: TokenLayout) -> Levels:
    """Return the levels of a layout; quantisation of continuous ones is left at its default."""
    return tuple(
        StoredLevel(level.grid, level.vocab_sizes, level.channels, level.ordered)
        for level in layout.levels
    )


def token_layout(
    levels: Levels, image_size: tuple[int, int], tokenizer_id: str, *, is_ragged: bool = False
) -> TokenLayout:
    """Return the layout of tokens stored as ``levels``."""
    return TokenLayout(
        tuple(LevelLayout(s.grid, s.vocab_sizes, s.channels, s.ordered, is_ragged) for s in levels),
        image_size,
        tokenizer_id,
    )


def truncate_levels(levels: Levels, part: Part) -> Levels:
    """Return the levels that are complete once ``part`` and all before it are here."""
    kept = list(levels[: part.levels])
    if part.groups is not None:
        level = kept[0]
        if level.channels:
            kept[0] = replace(level, channels=part.groups)
        else:
            kept[0] = replace(level, vocab_sizes=level.vocab_sizes[: part.groups])
    return tuple(kept) if part.length is None else cut_length(tuple(kept), part.length)


def cut_length(levels: Levels, length: int) -> Levels:
    """Return the layout of the first positions of a sequence."""
    return (replace(levels[0], grid=(length,)),)


def quantised_like(
    levels: Levels, quantisation: tuple[int, int] | None, prior: Prior | None
) -> Levels | None:
    """Fill in the quantisation of continuous levels, as files do that leave it to the model.

    Args:
        levels: of the model's layout.
        quantisation: exponent and range to use; None for exponent 8 and the prior's range.
        prior: the prior that the tokens are coded with.

    Returns:
        The levels, or None if a range cannot be known.
    """
    filled = []
    for i, level in enumerate(levels):
        if level.channels:
            known = prior.range_bits(i, level.channels) if prior else None
            exponent, bits = quantisation or (DEFAULT_EXPONENT, known)
            if bits is None:
                return None
            level = replace(level, exponent=exponent, range_bits=bits)
        filled.append(level)
    return tuple(filled)


def is_truncation(levels: Levels, full: Levels) -> bool:
    """Return whether ``levels`` can be left of ``full`` by dropping ordered tails."""
    if len(levels) > len(full):
        return False
    for level, whole in zip(levels, full, strict=False):
        groups, grid = level.groups, level.grid
        if whole.ordered == "length" and grid[0] <= whole.grid[0]:
            whole = replace(whole, grid=grid)
        if whole.ordered == "groups" and groups <= whole.groups:
            sizes = whole.vocab_sizes[:groups]
            whole = replace(whole, vocab_sizes=sizes, channels=groups if whole.channels else 0)
        whole = replace(whole, exponent=level.exponent, range_bits=level.range_bits)
        if level != whole:
            return False
    return True


def to_arrays(tokens: Tokens, exponent: int, prior: Prior | None) -> tuple[Levels, Arrays]:
    """Return the stored levels and values ``(positions, G)`` of one picture.

    Args:
        tokens: a batch of one.
        exponent: e of the uniform quantisation ``round(x 2^e)`` of continuous levels.
        prior: its histograms fix the range of continuous levels' tables.

    Raises:
        ShapeError: if the batch is not one picture or a value is out of range.
    """
    if len(tokens) != 1:
        raise ShapeError(f"a batch of {len(tokens)} pictures given; a token file holds one")
    tokens.check_range()
    levels, arrays = [], []
    for i, (tensor, level) in enumerate(
        zip(tokens.levels, stored_levels(tokens.layout), strict=True)
    ):
        values = tensor[0].detach().cpu().reshape(level.positions, level.groups)
        if level.channels:
            array = _quantised(values, exponent, i)
            known = prior.range_bits(i, level.channels) if prior else None
            bits = _range_bits(array) if known is None else known
            level = replace(level, exponent=exponent, range_bits=bits)
        else:
            array = values.numpy()
        levels.append(level)
        arrays.append(array)
    return tuple(levels), arrays


def _quantised(values: torch.Tensor, exponent: int, i: int) -> NDArray[np.int64]:
    scaled = torch.round(values.double() * 2.0**exponent)
    largest = float(scaled.abs().max())
    if largest > _LARGEST:
        raise ShapeError(
            f"level {i} reaches {largest:.3g} steps of 2^{-exponent}; expected less than 2^31: "
            "use a smaller exponent"
        )
    return scaled.to(torch.int64).numpy()


def _range_bits(values: NDArray[np.int64]) -> int:
    largest = max(int(values.max()), -int(values.min()) - 1)
    return min(largest.bit_length(), _MOST_RANGE_BITS)


def to_tokens(arrays: Sequence[NDArray[np.int64]], levels: Levels, layout: TokenLayout) -> Tokens:
    """Return a batch of one from values ``(positions, G)``."""
    tensors = []
    for array, level in zip(arrays, levels, strict=True):
        tensor = torch.from_numpy(array).reshape(1, *level.grid, level.groups)
        tensors.append(
            (tensor.double() * 2.0**-level.exponent).float() if level.channels else tensor
        )
    return Tokens(tensors, layout)


def new_arrays(levels: Levels, counts: Counts | None = None) -> Arrays:
    """Return values ``(positions, G)`` to decode into.

    Args:
        levels: what the file holds.
        counts: how many groups each position of the only level keeps; None for all.

    Returns:
        Zeros, but for absent tokens.
    """
    arrays = [np.zeros((level.positions, level.groups), dtype=np.int64) for level in levels]
    if counts is not None:
        arrays[0][np.arange(levels[0].groups) >= counts.reshape(-1, 1)] = ABSENT
    return arrays


__all__ = [
    "DEFAULT_EXPONENT",
    "Arrays",
    "Levels",
    "cut_length",
    "is_truncation",
    "new_arrays",
    "quantised_like",
    "stored_levels",
    "to_arrays",
    "to_tokens",
    "token_layout",
    "truncate_levels",
]
