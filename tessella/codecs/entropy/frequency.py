"""Adaptive frequencies: profile 2 for tokens of any alphabet.

Counts of a level and group start at ``ceil(prior_k A / sum prior)`` with ``A = isqrt(4096 K)``,
at least 1. Positions are coded in chunks of ``max(1, K // 16)`` (the largest K of the run) with the
table that rule Q makes of the counts; then each coded symbol adds 32 to its count, and when the sum
exceeds ``2^16 + 32 K`` all counts are halved, rounding up.

On a map, a group may repeat its neighbour exactly (skies, walls). Two binary decisions come first:
"same as left", and if not, "same as top" (asked only where top differs from left). Their counts
start at 1 and 1 and halve when their sum exceeds 1000; symbols that a decision settles are not
counted in the table. Where a level is ragged, the tokens of a group that are there are coded as a
sequence, without these decisions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tessella.codecs.entropy.prior import Prior
from tessella.codecs.entropy.range_coder import RangeDecoder, RangeEncoder
from tessella.codecs.entropy.segments import (
    Values,
    costly_symbols,
    run_groups,
    run_values,
    symbol_count,
    tokens_here,
)
from tessella.codecs.entropy.signed import decode_signed, encode_signed
from tessella.codecs.entropy.tables import FrequencyTable, precision, table_from_weights
from tessella.codecs.stored_layout import Run, StoredLevel

_INCREMENT = 32
_SUM_LIMIT = 1 << 16
_OUTSIDE = -1


class AdaptiveTable:
    """Counts of one level and group, and the table made of them."""

    def __init__(self, prior: NDArray[np.int64]) -> None:
        size = prior.size
        scale = math.isqrt(4096 * size)
        total = int(prior.sum())
        if total == 0:
            prior, total = np.ones_like(prior), size
        self._counts = np.maximum(-(-prior * scale // total), 1)
        self._bits = precision(size)
        self.table = self._rebuilt()

    def update(self, symbols: Sequence[int]) -> None:
        """Count symbols that were coded and rebuild the table."""
        if not symbols:
            return
        size = self._counts.size
        self._counts += _INCREMENT * np.bincount(np.array(symbols), minlength=size)
        if int(self._counts.sum()) > _SUM_LIMIT + _INCREMENT * size:
            self._counts = (self._counts + 1) >> 1
        self.table = self._rebuilt()

    def _rebuilt(self) -> FrequencyTable:
        return table_from_weights(self._counts, self._bits)


class AdaptiveBit:
    """Counts of a binary decision."""

    __slots__ = ("_ones", "_zeros")

    def __init__(self) -> None:
        self._zeros = 1
        self._ones = 1

    @property
    def zero_frequency(self) -> int:
        """Frequency of a 0, of 2^16."""
        return 1 + 65534 * self._zeros // (self._zeros + self._ones)

    def update(self, bit: int) -> None:
        """Count a decision."""
        if bit:
            self._ones += 1
        else:
            self._zeros += 1
        if self._zeros + self._ones > 1000:
            self._zeros = (self._zeros + 1) >> 1
            self._ones = (self._ones + 1) >> 1


class FrequencyModel:
    """Codes runs with adaptive frequencies, keeping its counts from part to part.

    Args:
        levels: the stored layout.
        values: one array a level, read when encoding and filled when decoding.
        prior: where counts start.
    """

    def __init__(self, levels: Sequence[StoredLevel], values: Values, prior: Prior) -> None:
        self._levels = levels
        self._values = values
        self._prior = prior
        self._tables: dict[tuple[int, int], AdaptiveTable] = {}
        self._repeats: dict[tuple[int, int], _Repeats] = {}

    def costly_symbols(self, run: Run) -> int:
        """Count the symbols of a run that are never nearly free."""
        return costly_symbols(run, self._levels[run.level], self._values)

    def encode(self, run: Run, encoder: RangeEncoder) -> None:
        """Encode one run."""
        is_here = tokens_here(run, self._levels[run.level], self._values)
        coding = _Encoding(encoder, run_values(run, self._values)[is_here])
        self._code(run, is_here, coding)

    def decode(self, run: Run, decoder: RangeDecoder) -> None:
        """Decode one run."""
        is_here = tokens_here(run, self._levels[run.level], self._values)
        target = run_values(run, self._values)
        decoded = target if is_here.all() else target[is_here]
        self._code(run, is_here, _Decoding(decoder, decoded))
        if decoded is not target:
            target[is_here] = decoded

    def _run_tables(self, run: Run) -> list[AdaptiveTable]:
        level = self._levels[run.level]
        for g in run_groups(run, level):
            if (run.level, g) not in self._tables:
                size = symbol_count(level, g)
                counts = self._prior.histogram(run.level, g, size)
                self._tables[run.level, g] = AdaptiveTable(counts)
        return [self._tables[run.level, g] for g in run_groups(run, level)]

    def _code(self, run: Run, is_here: NDArray[np.bool_], coding: _Encoding | _Decoding) -> None:
        level = self._levels[run.level]
        tables = self._run_tables(run)
        positions = int(is_here.sum())
        is_map = len(level.grid) == 2 and positions == is_here.size
        chunk = max(1, max(table.table.size for table in tables) // 16)
        for start in range(0, positions, chunk):
            stop = min(start + chunk, positions)
            if level.channels:
                coded = [coding.signed(start, stop, tables[0].table)]
            elif is_map:
                repeats = [
                    self._repeats.setdefault((run.level, g), _Repeats(level.grid[1]))
                    for g in run_groups(run, level)
                ]
                coded = coding.repeating(start, stop, tables, repeats)
            else:
                coded = coding.plain(start, stop, tables)
            for table, symbols in zip(tables, coded, strict=True):
                table.update(symbols)


class _Repeats:
    """Decisions "same as left" and "same as top" of one group of a map."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.left = [AdaptiveBit() for _ in range(4)]
        self.top = [AdaptiveBit() for _ in range(2)]

    def candidates(self, column: list[int], i: int) -> list[tuple[AdaptiveBit, int]]:
        """Return the decisions to make at position ``i``, each with the symbol it would settle."""
        width = self.width
        x = i % width
        left = column[i - 1] if x else _OUTSIDE
        top = column[i - width] if i >= width else _OUTSIDE
        corner = column[i - width - 1] if x and i >= width else _OUTSIDE
        found = []
        if left != _OUTSIDE:
            found.append((self.left[(top == left) + 2 * (corner == top)], left))
        if top not in (_OUTSIDE, left):
            found.append((self.top[corner == left], top))
        return found


class _Encoding:
    """The encoder's side of a run."""

    def __init__(self, encoder: RangeEncoder, values: NDArray[np.int64]) -> None:
        self._encoder = encoder
        self._columns = [values[:, g].tolist() for g in range(values.shape[1])]

    def plain(self, start: int, stop: int, tables: list[AdaptiveTable]) -> list[list[int]]:
        coded = [column[start:stop] for column in self._columns]
        symbols = [symbol for position in zip(*coded, strict=True) for symbol in position]
        self._encoder.encode_run(symbols, [table.table for table in tables])
        return coded

    def signed(self, start: int, stop: int, table: FrequencyTable) -> list[int]:
        values = self._columns[0][start:stop]
        encode_signed(self._encoder, values, table)
        return _signed_symbols(values, table)

    def repeating(
        self, start: int, stop: int, tables: list[AdaptiveTable], repeats: list[_Repeats]
    ) -> list[list[int]]:
        coded: list[list[int]] = [[] for _ in tables]
        for i in range(start, stop):
            for g, column in enumerate(self._columns):
                symbol = column[i]
                for decision, candidate in repeats[g].candidates(column, i):
                    bit = int(symbol == candidate)
                    self._encoder.encode_bits((bit,), (decision.zero_frequency,))
                    decision.update(bit)
                    if bit:
                        break
                else:
                    self._encoder.encode_run((symbol,), (tables[g].table,))
                    coded[g].append(symbol)
        return coded


class _Decoding:
    """The decoder's side of a run; fills ``target``."""

    def __init__(self, decoder: RangeDecoder, target: NDArray[np.int64]) -> None:
        self._decoder = decoder
        self._target = target
        self._columns: list[list[int]] = [[] for _ in range(target.shape[1])]

    def plain(self, start: int, stop: int, tables: list[AdaptiveTable]) -> list[list[int]]:
        count = (stop - start) * len(tables)
        symbols = self._decoder.decode_run(count, [table.table for table in tables])
        coded = [symbols[g :: len(tables)] for g in range(len(tables))]
        self._target[start:stop] = np.array(coded, dtype=np.int64).T
        return coded

    def signed(self, start: int, stop: int, table: FrequencyTable) -> list[int]:
        values = decode_signed(self._decoder, stop - start, table)
        self._target[start:stop, 0] = values
        return _signed_symbols(values, table)

    def repeating(
        self, start: int, stop: int, tables: list[AdaptiveTable], repeats: list[_Repeats]
    ) -> list[list[int]]:
        coded: list[list[int]] = [[] for _ in tables]
        for i in range(start, stop):
            for g, column in enumerate(self._columns):
                for decision, candidate in repeats[g].candidates(column, i):
                    bit = self._decoder.decode_bits((decision.zero_frequency,))[0]
                    decision.update(bit)
                    if bit:
                        column.append(candidate)
                        break
                else:
                    symbol = self._decoder.decode_run(1, (tables[g].table,))[0]
                    coded[g].append(symbol)
                    column.append(symbol)
        for g, column in enumerate(self._columns):
            self._target[start:stop, g] = column[start:stop]
        return coded


def _signed_symbols(values: Sequence[int], table: FrequencyTable) -> list[int]:
    escape = table.size - 1
    bound = escape // 2
    return [v + bound if -bound <= v < bound else escape for v in values]


__all__ = ["AdaptiveBit", "AdaptiveTable", "FrequencyModel"]
