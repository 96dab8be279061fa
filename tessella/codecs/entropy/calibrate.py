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
        for g in range(level.groups):
            histograms[i, g] = _histogram(values[:, g], level, g, options.exponent)
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


def _histogram(
    values: torch.Tensor, level: LevelLayout, group: int, exponent: int
) -> NDArray[np.int64]:
    if not level.is_continuous:
        size = level.vocab_sizes[group]
        if size > _LARGEST_TABLE:
            raise ShapeError(f"an alphabet of {size} given; tables go up to {_LARGEST_TABLE}")
        return _bounded(np.bincount(values.numpy(), minlength=size))
    raise NotImplementedError(exponent)


def _bounded(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    shift = max(0, int(counts.max()).bit_length() - MAX_WEIGHT.bit_length())
    return -(-counts >> shift)


__all__ = ["Calibration", "calibrate"]
