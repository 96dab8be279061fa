"""Makes the entropy prior of a tokenizer from the tokens of ordinary pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from tessella.codecs.entropy.bit_model import BitModelSpec
from tessella.codecs.entropy.bit_training import BitTraining, Progress, fit_bit_model
from tessella.codecs.entropy.prior import Prior
from tessella.codecs.entropy.tables import MAX_WEIGHT
from tessella.errors import ShapeError
from tessella.tokens import LevelLayout, Tokens

_LARGEST_TABLE = 2**20
_MOST_GROUP_BITS = 12
_COVERED = 0.9999  # of continuous values; the others are escaped
_MOST_RANGE_BITS = 16


@dataclass(frozen=True, slots=True)
class Calibration:
    """How to make a prior.

    Args:
        has_bit_model: whether to fit a context model; only for a single map whose alphabets are
            powers of two and whose bits mean something one by one.
        earlier_radius: see :class:`BitModelSpec`.
        causal_radius: see :class:`BitModelSpec`.
        hidden: see :class:`BitModelSpec`.
        training: how to fit it.
        exponent: e of the quantisation ``round(x 2^e)`` of continuous levels.
    """

    has_bit_model: bool = True
    earlier_radius: int = 1
    causal_radius: int = 2
    hidden: int = 64
    training: BitTraining = field(default_factory=BitTraining)
    exponent: int = 8


def calibrate(
    pictures: Iterable[Tokens],
    calibration: Calibration | None = None,
    progress: Progress | None = None,
) -> Prior:
    """Return the prior of tokens like those given.

    Args:
        pictures: tokens of one token space, any batch and picture sizes, whole (not truncated).
        calibration: what to make.
        progress: called now and then while a context model is fitted.

    Raises:
        ShapeError: if there are no tokens, or their levels are unlike or have too large alphabets.
    """
    options = calibration or Calibration()
    batches = [batch.to("cpu") for batch in pictures]
    if not batches:
        raise ShapeError("no tokens given; calibration needs those of at least one picture")
    kinds = {tuple((s.vocab_sizes, s.channels) for s in b.layout.levels) for b in batches}
    if len(kinds) > 1:
        raise ShapeError(f"tokens of unlike layouts given: {sorted(kinds)}; expected one kind")
    histograms = {}
    for i, level in enumerate(batches[0].layout.levels):
        values = torch.cat([b.levels[i].reshape(-1, level.groups) for b in batches])
        for g, counts in enumerate(_histograms(values, level, options.exponent)):
            histograms[i, g] = counts
    levels = batches[0].layout.levels
    model = None
    if options.has_bit_model and _is_bitwise(levels):
        maps = [picture.numpy() for b in batches for picture in b.levels[0]]
        shape = BitModelSpec(
            tuple(size.bit_length() - 1 for size in levels[0].vocab_sizes),
            options.earlier_radius,
            options.causal_radius,
            options.hidden,
        )
        model = fit_bit_model(maps, shape, options.training, progress)
    return Prior(histograms, model)


def _is_bitwise(levels: Sequence[LevelLayout]) -> bool:
    sizes = levels[0].vocab_sizes
    return (
        len(levels) == 1
        and len(levels[0].grid) == 2
        and bool(sizes)
        and all(s & (s - 1) == 0 and s <= 1 << _MOST_GROUP_BITS for s in sizes)
    )


def _histograms(values: torch.Tensor, level: LevelLayout, exponent: int) -> list[NDArray[np.int64]]:
    """Return the counts of each group of values ``(n, G)``."""
    if not level.is_continuous:
        largest = max(level.vocab_sizes)
        if largest > _LARGEST_TABLE:
            raise ShapeError(f"an alphabet of {largest} given; tables go up to {_LARGEST_TABLE}")
        return [
            _smoothed(np.bincount(values[:, g].numpy(), minlength=size))
            for g, size in enumerate(level.vocab_sizes)
        ]
    integers = torch.round(values.double() * 2.0**exponent).to(torch.int64).numpy()
    reach = int(np.quantile(np.abs(integers), _COVERED))
    bound = 1 << min(reach.bit_length(), _MOST_RANGE_BITS)
    inside = (integers >= -bound) & (integers < bound)
    symbols = np.where(inside, integers + bound, 2 * bound)
    return [_smoothed(np.bincount(column, minlength=2 * bound + 1)) for column in symbols.T]


def _smoothed(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Add half a count to each (Krichevsky-Trofimov), doubled to stay in integers, and bound it."""
    counts = 2 * counts + 1
    shift = max(0, int(counts.max()).bit_length() - MAX_WEIGHT.bit_length())
    return -(-counts >> shift)


__all__ = ["Calibration", "calibrate"]
