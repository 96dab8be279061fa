"""rANS as CompressAI and McQuic write it: 64 bits of state, 32-bit words, 16-bit probabilities.

For a symbol with the slots ``[start, start + f)`` of 2^16, from a state x that begins as 2^31::

    if x >= 2^47 f: write the low word of x, x >>= 32
    x = (x // f) 2^16 + x mod f + start

Symbols are encoded last to first, so that they are decoded first to last. A stream is the final
state, low word first, and the words in the reverse order of writing, all little-endian. A decoder
that has read everything is back at 2^31 with no word left, which is checked.

Files of this library use the range coder (:mod:`~tessella.codecs.entropy.range_coder`), a prefix of
whose bytes can be decoded. This one is for comparison with published streams and rates.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tessella.codecs.container_errors import MalformedError, TruncatedError
from tessella.errors import ShapeError

BITS = 16

_LOWEST = 1 << 31
_WORD = 1 << 32
_ESCAPE_BITS = 4
_MOST_DIGITS = 8  # an escaped value has at most 32 bits


class Slots(NamedTuple):
    """Slots of 2^16: value ``offset + s`` owns ``[starts[s], starts[s + 1])``.

    Args:
        starts: ascending from 0 to 2^16.
        offset: the value of the first slot.
        has_escape: whether the last slot stands for all values that have none.
    """

    starts: Sequence[int]
    offset: int = 0
    has_escape: bool = False


def slots(
    starts: Sequence[int] | NDArray[np.integer], *, offset: int = 0, has_escape: bool = False
) -> Slots:
    """Check a table and return it.

    Raises:
        ShapeError: if the starts do not ascend from 0 to 2^16 without empty slots.
    """
    found = [int(start) for start in starts]
    ascends = all(a < b for a, b in pairwise(found))
    if len(found) < 2 or found[0] != 0 or found[-1] != 1 << BITS or not ascends:
        raise ShapeError(
            f"starts {found[:3]} ... {found[-1:]} given; expected to ascend strictly from 0 to 2^16"
        )
    return Slots(found, offset, has_escape)


class _Piece(NamedTuple):
    """What is coded at once: ``frequency`` slots from ``start`` on, of ``2^bits``."""

    start: int
    frequency: int
    bits: int


def rans_encode(values: Sequence[int], tables: Sequence[Slots]) -> bytes:
    """Encode values, each by its table.

    Args:
        values: integers.
        tables: one a value.

    Raises:
        ShapeError: if a value has no slot and its table no escape.
    """
    pieces = [
        piece
        for value, table in zip(values, tables, strict=True)
        for piece in _pieces(int(value), table)
    ]
    state, words = _LOWEST, []
    for start, frequency, bits in reversed(pieces):
        if state >= (_LOWEST >> bits) * _WORD * frequency:
            words.append(state % _WORD)
            state >>= 32
        state = (state // frequency << bits) + state % frequency + start
    words += [state >> 32, state % _WORD]
    return np.array(words[::-1], dtype="<u4").tobytes()


def rans_decode(data: bytes, tables: Sequence[Slots]) -> list[int]:
    """Decode one value for each table.

    Args:
        data: the whole stream.
        tables: those that were used for encoding.

    Raises:
        TokenFileError: if the stream is too short, too long, or no encoder writes it.
    """
    decoder = _Decoder(data)
    values = [decoder.value(table) for table in tables]
    decoder.check_end()
    return values


def _pieces(value: int, table: Slots) -> list[_Piece]:
    starts = table.starts
    last = len(starts) - 2
    symbol = value - table.offset
    if 0 <= symbol < last + (not table.has_escape):
        return [_Piece(starts[symbol], starts[symbol + 1] - starts[symbol], BITS)]
    if not table.has_escape:
        raise ShapeError(
            f"value {value} given; the table has slots from {table.offset} to "
            f"{table.offset + last} and no escape"
        )
    raw = -2 * symbol - 1 if symbol < 0 else 2 * (symbol - last)
    digits = -(-raw.bit_length() // _ESCAPE_BITS)
    if digits > _MOST_DIGITS:
        raise ShapeError(f"value {value} given; expected one within 2^30 of its table")
    groups = [digits, *(raw >> _ESCAPE_BITS * i & 15 for i in range(digits))]
    escape = _Piece(starts[last], starts[last + 1] - starts[last], BITS)
    return [escape, *(_Piece(group, 1, _ESCAPE_BITS) for group in groups)]


class _Decoder:
    """The state of a stream that is being read."""

    def __init__(self, data: bytes) -> None:
        if len(data) % 4 or len(data) < 8:
            raise MalformedError(
                f"an rANS stream of {len(data)} bytes; expected a multiple of 4, at least 8"
            )
        self._words: list[int] = np.frombuffer(data, dtype="<u4").tolist()
        self._state: int = self._words[0] + (self._words[1] << 32)
        self._next = 2
        if not _LOWEST <= self._state < _LOWEST * _WORD:
            raise MalformedError(
                f"an rANS stream begins with the state {self._state}; expected 2^31 to below 2^63"
            )

    def value(self, table: Slots) -> int:
        starts = table.starts
        slot = self._state % (1 << BITS)
        symbol = bisect_right(starts, slot) - 1
        self._advance(starts[symbol], starts[symbol + 1] - starts[symbol], BITS)
        if not table.has_escape or symbol < len(starts) - 2:
            return table.offset + symbol
        raw = self._escaped()
        return table.offset + (-(raw + 1) // 2 if raw & 1 else symbol + raw // 2)

    def _escaped(self) -> int:
        digits = self._group()
        if digits > _MOST_DIGITS:
            raise MalformedError(
                f"an escaped value of {digits} digits near word {self._next} of an rANS stream; "
                f"expected at most {_MOST_DIGITS}"
            )
        raw = sum(self._group() << _ESCAPE_BITS * i for i in range(digits))
        if -(-raw.bit_length() // _ESCAPE_BITS) != digits:
            raise MalformedError(
                f"an escaped value with leading zeros near word {self._next} of an rANS stream"
            )
        return raw

    def _group(self) -> int:
        group = self._state % (1 << _ESCAPE_BITS)
        self._advance(group, 1, _ESCAPE_BITS)
        return group

    def _advance(self, start: int, frequency: int, bits: int) -> None:
        slot = self._state % (1 << bits)
        self._state = frequency * (self._state >> bits) + slot - start
        if self._state >= _LOWEST:
            return
        if self._next == len(self._words):
            raise TruncatedError(f"an rANS stream ends early, after {self._next} words")
        self._state = (self._state << 32) + self._words[self._next]
        self._next += 1

    def check_end(self) -> None:
        left = len(self._words) - self._next
        if left or self._state != _LOWEST:
            raise MalformedError(
                f"an rANS stream ends in the state {self._state} with {left} word(s) left; "
                "expected 2^31 and none: the bytes or the tables are not those of its encoder"
            )


__all__ = ["BITS", "Slots", "rans_decode", "rans_encode", "slots"]
