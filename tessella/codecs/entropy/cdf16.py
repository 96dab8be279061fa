"""Probabilities to tables of 2^16 slots, as CompressAI and McQuic make them.

    F_i = floor(2^16 round(2^16 p_i) / sum round(2^16 p)),   C = prefix sums, the last one 2^16

and every empty slot, from the first on, takes a place from the narrowest symbol that can spare one
(the first of them, by the widths of that moment).
Floats decide here: use it to compare with published streams; tables of this library come from
integers (:mod:`~tessella.codecs.entropy.tables`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tessella.codecs.entropy.rans import BITS
from tessella.errors import ShapeError


def cdf16(pmf: ArrayLike) -> NDArray[np.int64]:
    """Return the starts ``(n + 1,)`` of probabilities.

    Args:
        pmf: ``(n,)`` non-negative float32, taken as it is: it need not sum to 1. McQuic divides its
            frequencies by their sum before.

    Raises:
        ShapeError: if it is empty, has more than 2^16 entries, or no positive one.
    """
    p = np.asarray(pmf, dtype=np.float32)
    if p.ndim != 1 or not 1 <= p.size <= 1 << BITS or not np.isfinite(p).all() or p.min() < 0:
        raise ShapeError(
            f"probabilities of shape {p.shape} given; expected 1 to 2^16 finite ones, none negative"
        )
    # exact in float32; halves are rounded away from zero
    counts = np.floor(p.astype(np.float64) * (1 << BITS) + 0.5).astype(np.int64)
    total = int(counts.sum())
    if not total:
        raise ShapeError("probabilities given that all round to 0; expected a positive one")
    starts = np.concatenate([[0], np.cumsum((counts << BITS) // total)])
    starts[-1] = 1 << BITS
    for i in np.flatnonzero(starts[1:] == starts[:-1]):
        _take_a_place(starts, int(i))
    return starts


def _take_a_place(starts: NDArray[np.int64], empty: int) -> None:
    """Give an empty slot a place of the narrowest symbol with more than one, the first of them."""
    widths = np.diff(starts)
    giver = int(np.where(widths > 1, widths, 1 << BITS + 1).argmin())
    if giver < empty:
        starts[giver + 1 : empty + 1] -= 1
    else:
        starts[empty + 1 : giver + 1] += 1


__all__ = ["cdf16"]
