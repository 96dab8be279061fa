"""The arithmetic coder of torchac: 32-bit bounds, 16-bit probabilities, a bit at a time.

Published rates of index codecs were measured with it. Files of this library use the range coder
(:mod:`~tessella.codecs.entropy.range_coder`); this one is for comparison.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tessella.errors import ShapeError

_BITS = 16
_HALF = 1 << 31
_QUARTER = 1 << 30
_FULL = (1 << 32) - 1
_MOST_SYMBOLS = 1 << 15


def torchac_starts(cdf: ArrayLike) -> NDArray[np.int64]:
    """Return integer starts of float cumulative probabilities; every symbol has a place.

    Args:
        cdf: ``(..., L + 1)`` float32, ascending from 0 to 1.

    Returns:
        ``(..., L + 1)`` from 0 to 2^16.

    Raises:
        ShapeError: if there are fewer than 1 or more than 2^15 symbols, or values outside 0 to 1.
    """
    c = np.asarray(cdf, dtype=np.float32)
    symbols = c.shape[-1] - 1 if c.ndim else 0
    if not 1 <= symbols <= _MOST_SYMBOLS or not (np.isfinite(c).all() and c.min() >= 0):
        raise ShapeError(
            f"cumulative probabilities of shape {c.shape} given; expected (..., L + 1) from 0 to 1 "
            f"with L from 1 to {_MOST_SYMBOLS}"
        )
    scale = np.float32((1 << _BITS) - symbols)
    rounded = np.rint(np.minimum(c, np.float32(1)) * scale)
    starts: NDArray[np.int64] = rounded.astype(np.int64)
    starts += np.arange(symbols + 1)
    starts[..., -1] = 1 << _BITS
    return starts


def torchac_encode(symbols: Sequence[int], tables: Sequence[Sequence[int]]) -> bytes:
    """Encode symbols, each by the starts of its table."""
    low, high, pending = 0, _FULL, 0
    bits: list[int] = []

    def emit(bit: int) -> None:
        nonlocal pending
        bits.extend((bit, *([1 - bit] * pending)))
        pending = 0

    for symbol, starts in zip(symbols, tables, strict=True):
        low, high = _narrowed(low, high, starts, symbol)
        while True:
            if high < _HALF or low >= _HALF:
                emit(int(low >= _HALF))
                low, high = low << 1 & _FULL, high << 1 & _FULL | 1
            elif low >= _QUARTER and high < _HALF + _QUARTER:
                pending += 1
                low, high = low << 1 & (_HALF - 1), (high << 1 | _HALF | 1) & _FULL
            else:
                break
    pending += 1
    emit(int(low >= _QUARTER))
    return np.packbits(np.array(bits, dtype=np.uint8)).tobytes()


def torchac_decode(data: bytes, tables: Sequence[Sequence[int]]) -> list[int]:
    """Decode one symbol for each table; a stream that is not theirs gives others.

    Nothing in such a stream tells where it ends: bits past the end are zeros.
    """
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8)).tolist()
    following = iter(bits[32:])
    value = int.from_bytes(data[:4].ljust(4, b"\0"), "big")
    low, high = 0, _FULL
    symbols = []
    for starts in tables:
        target = ((value - low + 1 << _BITS) - 1) // (high - low + 1)
        symbol = bisect_right(starts, target) - 1
        symbols.append(symbol)
        low, high = _narrowed(low, high, starts, symbol)
        while True:
            if high < _HALF or low >= _HALF:
                value = value << 1 & _FULL | next(following, 0)
                low, high = low << 1 & _FULL, high << 1 & _FULL | 1
            elif low >= _QUARTER and high < _HALF + _QUARTER:
                value = (value - _QUARTER << 1 | next(following, 0)) & _FULL
                low, high = low << 1 & (_HALF - 1), (high << 1 | _HALF | 1) & _FULL
            else:
                break
    return symbols


def _narrowed(low: int, high: int, starts: Sequence[int], symbol: int) -> tuple[int, int]:
    span = high - low + 1
    return low + (span * starts[symbol] >> _BITS), low - 1 + (span * starts[symbol + 1] >> _BITS)


__all__ = ["torchac_decode", "torchac_encode", "torchac_starts"]
