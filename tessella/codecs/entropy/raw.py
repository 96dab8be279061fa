"""Profile 0: every symbol of an alphabet costs the same; no model is needed to decode.

Alphabets that are powers of two are packed at fixed width, least significant bit first, bytes
filled from their low end; a part with any other alphabet uses the range coder with equal weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tessella.codecs.container_errors import MalformedError
from tessella.codecs.entropy.segments import (
    TableCoder,
    Values,
    run_groups,
    run_values,
    symbol_count,
    tokens_here,
)
from tessella.codecs.entropy.tables import FrequencyTable, uniform_table
from tessella.codecs.stored_layout import Part, StoredLevel


class RawCoder:
    """Codes parts without a model.

    Args:
        levels: the stored layout.
        values: one array a level.
    """

    def __init__(self, levels: Sequence[StoredLevel], values: Values) -> None:
        @cache
        def uniform(level: int, group: int) -> FrequencyTable:
            return uniform_table(symbol_count(levels[level], group))

        self._levels = levels
        self._values = values
        self._by_table = TableCoder(levels, values, uniform)

    def encode(self, part: Part) -> bytes:
        """Return the bytes of one part."""
        widths = self._widths(part)
        if widths is None:
            return self._by_table.encode(part)
        bits = [
            _to_bits(run_values(run, self._values)[is_here], width)
            for run, width, is_here in zip(part.runs, widths, self._here(part), strict=True)
        ]
        return np.packbits(np.concatenate(bits), bitorder="little").tobytes()

    def decode(self, part: Part, segment: bytes | memoryview, padding: int | None = None) -> None:
        """Fill the values of one part."""
        widths = self._widths(part)
        if widths is None:
            self._by_table.decode(part, segment, padding)
            return
        here = self._here(part)
        counts = [int(h.sum()) * sum(w) for h, w in zip(here, widths, strict=True)]
        data = np.frombuffer(segment, dtype=np.uint8)
        size = -(-sum(counts) // 8)
        if padding is not None and data.size < size:
            data = np.concatenate([data, np.full(size - data.size, padding, dtype=np.uint8)])
        bits = np.unpackbits(data, bitorder="little")
        if data.size != size or (padding is None and bits[sum(counts) :].any()):
            raise MalformedError(
                f"a packed segment of {data.size} bytes; expected {size} for {sum(counts)} bits, "
                "the last ones 0"
            )
        begin = 0
        for run, width, count, is_here in zip(part.runs, widths, counts, here, strict=True):
            symbols = np.empty((int(is_here.sum()), len(width)), dtype=np.int64)
            _from_bits(bits[begin : begin + count], width, symbols)
            run_values(run, self._values)[is_here] = symbols
            begin += count

    def _here(self, part: Part) -> list[NDArray[np.bool_]]:
        return [tokens_here(run, self._levels[run.level], self._values) for run in part.runs]

    def _widths(self, part: Part) -> list[list[int]] | None:
        widths = []
        for run in part.runs:
            level = self._levels[run.level]
            sizes = [symbol_count(level, g) for g in run_groups(run, level)]
            if any(size & (size - 1) for size in sizes):
                return None
            widths.append([size.bit_length() - 1 for size in sizes])
        return widths


def _to_bits(symbols: NDArray[np.int64], widths: Sequence[int]) -> NDArray[np.uint8]:
    bits = np.empty((symbols.shape[0], sum(widths)), dtype=np.uint8)
    column = 0
    for g, width in enumerate(widths):
        for j in range(width):
            bits[:, column] = symbols[:, g] >> j & 1
            column += 1
    return bits.ravel()


def _from_bits(bits: NDArray[np.uint8], widths: Sequence[int], target: NDArray[np.int64]) -> None:
    columns = bits.reshape(target.shape[0], sum(widths))
    target[:] = 0
    column = 0
    for g, width in enumerate(widths):
        for j in range(width):
            target[:, g] |= columns[:, column].astype(np.int64) << j
            column += 1


__all__ = ["RawCoder"]
