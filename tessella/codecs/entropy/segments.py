"""What every entropy profile shares: values of runs, and symbols coded by frequency tables.

Values of a level are ``(positions, G)`` int64, raster order; those of a continuous level are the
signed integers it was quantised to. A coder reads or fills such arrays part by part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tessella.codecs.container_errors import MalformedError
from tessella.codecs.entropy.range_coder import RangeDecoder, RangeEncoder
from tessella.codecs.entropy.signed import decode_signed, encode_signed
from tessella.codecs.entropy.tables import FrequencyTable
from tessella.codecs.stored_layout import Part, Run, StoredLevel
from tessella.tokens import ABSENT

Values = Sequence[NDArray[np.int64]]
TableOf = Callable[[int, int], FrequencyTable]

_LARGE_TABLE = 1024
_SYMBOLS_PER_BYTE = 6000


class SegmentCoder(Protocol):
    """Codes the parts of one picture, in order."""

    def encode(self, part: Part) -> bytes:
        """Return the bytes of one part."""
        ...

    def decode(self, part: Part, segment: bytes | memoryview, padding: int | None = None) -> None:
        """Fill the values of one part; ``padding`` is what to read past the end of a cut one."""
        ...


def run_values(run: Run, values: Values) -> NDArray[np.int64]:
    """Return a view ``(positions, groups of the run)`` of the values of a run."""
    rows = values[run.level][run.start : run.stop]
    return rows if run.group is None else rows[:, run.group : run.group + 1]


def tokens_here(run: Run, level: StoredLevel, values: Values) -> NDArray[np.bool_]:
    """Return at which positions ``(positions,)`` of a run there are tokens to code.

    Everywhere, but for the absent tokens of a ragged level; its runs hold one group each.
    """
    rows = run_values(run, values)
    if level.channels:
        return np.ones(len(rows), dtype=np.bool_)
    is_here: NDArray[np.bool_] = (rows != ABSENT).all(axis=1)
    return is_here


def run_groups(run: Run, level: StoredLevel) -> range:
    """Return the groups that a run codes at each position."""
    return range(level.groups) if run.group is None else range(run.group, run.group + 1)


def symbol_count(level: StoredLevel, group: int) -> int:
    """Return the alphabet of a group, escape included for a continuous level."""
    return (2 << level.range_bits) + 1 if level.channels else level.vocab_sizes[group]


def costly_symbols(run: Run, level: StoredLevel, values: Values) -> int:
    """Count the symbols of a run whose tables are so large that none is nearly free."""
    groups = run_groups(run, level)
    if min(symbol_count(level, g) for g in groups) < _LARGE_TABLE:
        return 0
    return int(tokens_here(run, level, values).sum()) * len(groups)


def least_bytes(symbols: int) -> int:
    """Return the least size of a segment with so many symbols that are never free of charge.

    Rule Q charges every symbol of a large table at least 8/6000 bits, so that short hostile
    segments cannot claim endless work. (Only the dropped zeros at the end of a segment could make
    an honest one shorter; the encoder then keeps some.)
    """
    return max(0, -(-symbols // _SYMBOLS_PER_BYTE) - 8)


def check_least(size: int, least: int) -> None:
    """Refuse a segment that is too short for its symbols, before they are decoded."""
    if size < least:
        raise MalformedError(f"a segment of {size} bytes; its tokens need at least {least}")


class TableCoder:
    """Codes every symbol by a fixed table of its level and group.

    Args:
        levels: the stored layout.
        values: one array a level, read by :meth:`encode` and written by :meth:`decode`.
        table_of: the table of a level and group.
    """

    def __init__(self, levels: Sequence[StoredLevel], values: Values, table_of: TableOf) -> None:
        self._levels = levels
        self._values = values
        self._table_of = table_of

    def encode(self, part: Part) -> bytes:
        """Return the bytes of one part."""
        encoder = RangeEncoder()
        for run in part.runs:
            level = self._levels[run.level]
            is_here = tokens_here(run, level, self._values)
            symbols = run_values(run, self._values)[is_here].ravel().tolist()
            tables = [self._table_of(run.level, g) for g in run_groups(run, level)]
            if level.channels:
                encode_signed(encoder, symbols, tables[0])
            else:
                encoder.encode_run(symbols, tables)
        return encoder.finish(least_bytes(self._costly_symbols(part)))

    def decode(self, part: Part, segment: bytes | memoryview, padding: int | None = None) -> None:
        """Fill the values of one part."""
        least = least_bytes(self._costly_symbols(part))
        if padding is None:
            check_least(len(segment), least)
        decoder = RangeDecoder(segment, padding or 0)
        for run in part.runs:
            level = self._levels[run.level]
            is_here = tokens_here(run, level, self._values)
            tables = [self._table_of(run.level, g) for g in run_groups(run, level)]
            count = int(is_here.sum()) * len(tables)
            if level.channels:
                symbols = decode_signed(decoder, count, tables[0])
            else:
                symbols = decoder.decode_run(count, tables)
            decoded = np.array(symbols, dtype=np.int64).reshape(-1, len(tables))
            run_values(run, self._values)[is_here] = decoded
        if padding is None:
            decoder.check_end(least)

    def _costly_symbols(self, part: Part) -> int:
        return sum(costly_symbols(run, self._levels[run.level], self._values) for run in part.runs)


__all__ = [
    "SegmentCoder",
    "TableCoder",
    "TableOf",
    "Values",
    "check_least",
    "costly_symbols",
    "least_bytes",
    "run_groups",
    "run_values",
    "symbol_count",
    "tokens_here",
]
