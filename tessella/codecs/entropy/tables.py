"""Integer frequency tables: rule Q and the integer softmax.

Probabilities used by the coder are integers derived from integers, so that every machine builds the
same table. Rule Q turns weights ``w_k`` into frequencies that sum to ``2^B``, none of them zero::

    S = sum w;  F_k = 1 + floor(w_k (2^B - n) / S);  the rest goes to the first largest weight
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tessella.codecs.entropy.exp_lut import EXP_LUT
from tessella.errors import ShapeError

MAX_WEIGHT = 2**31 - 1

_EXP_LUT = np.array((*EXP_LUT, 0), dtype=np.int64)


class FrequencyTable(NamedTuple):
    """Slots of ``2^bits``: symbol ``s`` owns ``[starts[s], starts[s + 1])``."""

    starts: Sequence[int]
    bits: int

    @property
    def size(self) -> int:
        """Number of symbols."""
        return len(self.starts) - 1


class _UniformStarts(Sequence[int]):
    """The starts of a uniform table, computed instead of stored."""

    __slots__ = ("_first", "_frequency", "_size")

    def __init__(self, size: int, bits: int) -> None:
        self._size = size
        self._frequency = (1 << bits) // size
        self._first = (1 << bits) - self._frequency * size

    def __len__(self) -> int:
        return self._size + 1

    def __getitem__(self, symbol: int) -> int:  # type: ignore[override]  # no slices needed
        return self._first + symbol * self._frequency if symbol else 0


def precision(size: int) -> int:
    """Return ``B(n) = clamp(ceil(log2 n) + 10, 16, 28)`` for an alphabet of ``size`` symbols."""
    return min(max((size - 1).bit_length() + 10, 16), 28)


def rule_q(weights: ArrayLike, bits: int) -> NDArray[np.int64]:
    """Return the frequencies of rule Q, ``(n,)`` int64 that sum to ``2^bits``.

    Args:
        weights: ``(n,)`` integers from 0 to 2^31 - 1.
        bits: precision B, with ``n <= 2^B``.

    Raises:
        ShapeError: if a weight is out of range or there are more symbols than slots.
    """
    w = np.asarray(weights, dtype=np.int64)
    n = w.size
    if w.ndim != 1 or n == 0 or n > 1 << bits or w.min() < 0 or w.max() > MAX_WEIGHT:
        raise ShapeError(
            f"weights of shape {w.shape} given for 2^{bits} slots; expected 1 to 2^{bits} integers "
            f"from 0 to {MAX_WEIGHT}"
        )
    total = int(w.sum())
    if total == 0:
        w, total = np.ones_like(w), n
    frequencies: NDArray[np.int64] = 1 + w * ((1 << bits) - n) // total
    frequencies[int(w.argmax())] += (1 << bits) - int(frequencies.sum())
    return frequencies


def table_from_weights(weights: ArrayLike, bits: int | None = None) -> FrequencyTable:
    """Build a table by rule Q; ``bits`` defaults to :func:`precision`."""
    w = np.asarray(weights, dtype=np.int64)
    bits = precision(w.size) if bits is None else bits
    return table_from_frequencies(rule_q(w, bits), bits)


def table_from_frequencies(frequencies: ArrayLike, bits: int) -> FrequencyTable:
    """Build a table from frequencies that are all positive and sum to ``2^bits``."""
    f = np.asarray(frequencies, dtype=np.int64)
    if f.size == 0 or f.min() < 1 or int(f.sum()) != 1 << bits:
        raise ShapeError(
            f"frequencies with minimum {f.min(initial=0)} and sum {f.sum()} given; expected "
            f"positive ones that sum to 2^{bits}"
        )
    return FrequencyTable([0, *np.cumsum(f).tolist()], bits)


def uniform_table(size: int) -> FrequencyTable:
    """Return rule Q's table for equal weights without storing it."""
    bits = precision(size)
    return FrequencyTable(_UniformStarts(size, bits), bits)


def softmax_weights(logits: ArrayLike) -> NDArray[np.int64]:
    """Return integer weights proportional to the exponentials of integer logits.

    Args:
        logits: ``(..., n)`` integers in units of 1/64 nat.

    Returns:
        ``(..., n)`` int64, ``floor(2^24 exp(-d / 64) + 1/2)`` for the distance ``d`` to the
        largest logit; 0 from d = 1110 on.
    """
    a = np.asarray(logits, dtype=np.int64)
    distance = a.max(axis=-1, keepdims=True) - a
    weights: NDArray[np.int64] = _EXP_LUT[np.minimum(distance, len(EXP_LUT))]
    return weights


__all__ = [
    "MAX_WEIGHT",
    "FrequencyTable",
    "precision",
    "rule_q",
    "softmax_weights",
    "table_from_frequencies",
    "table_from_weights",
    "uniform_table",
]
