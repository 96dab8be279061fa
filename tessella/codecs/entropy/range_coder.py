"""The range coder "rc64": integers in, bytes out, in coding order.

State: ``low`` and ``range``, 64 bits each, start 0 and 2^64 - 1. A symbol with the slot
``[lo, lo + fr)`` of ``2^B`` narrows the interval::

    r = range >> B;  low += r lo;  range = r fr   (the last slot takes the rounding slack)

and whenever ``range < 2^56`` the top byte of ``low`` is written. A carry out of ``low`` runs back
through the bytes already written. Because bytes come out in coding order, a prefix of the bytes
decodes to a prefix of the symbols; the cost over the model's ideal is below one byte a segment.
The coder itself decodes garbage without complaint: checksums belong to the container.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle, repeat

from tessella.codecs.container_errors import MalformedError
from tessella.codecs.entropy.tables import FrequencyTable

BINARY_BITS = 16

_TOP = 1 << 56
_FULL = 1 << 64
_LOW_MASK = _FULL - 1
_MOST_LEADING_ZEROS = 32


class RangeEncoder:
    """Encodes symbols to bytes; call :meth:`finish` once at the end."""

    __slots__ = ("_low", "_out", "_range")

    def __init__(self) -> None:
        self._low = 0
        self._range = _FULL - 1
        self._out = bytearray()

    def encode_run(self, symbols: Iterable[int], tables: Iterable[FrequencyTable]) -> None:
        """Encode symbols, the i-th by table ``i mod len(tables)``."""
        low, width, out = self._low, self._range, self._out
        for symbol, table in zip(symbols, cycle(tables), strict=False):
            starts, bits = table
            r = width >> bits
            start = starts[symbol]
            stop = starts[symbol + 1]
            low += r * start
            width = width - r * start if stop >> bits else r * (stop - start)
            if low > _LOW_MASK:
                low -= _FULL
                _carry(out)
            while width < _TOP:
                out.append(low >> 56)
                low = low << 8 & _LOW_MASK
                width <<= 8
        self._low, self._range = low, width

    def encode_bits(self, bits: Iterable[int], zero_frequencies: Iterable[int]) -> None:
        """Encode binary decisions; each 0 has its frequency of 2^16, between 1 and 65535."""
        low, width, out = self._low, self._range, self._out
        for bit, frequency in zip(bits, zero_frequencies, strict=False):
            cut = (width >> 16) * frequency
            if bit:
                low += cut
                width -= cut
                if low > _LOW_MASK:
                    low -= _FULL
                    _carry(out)
            else:
                width = cut
            while width < _TOP:
                out.append(low >> 56)
                low = low << 8 & _LOW_MASK
                width <<= 8
        self._low, self._range = low, width

    def encode_exp_golomb(self, value: int) -> None:
        """Encode ``value >= 0`` as n zero bits and the n + 1 bits of ``value + 1``."""
        code = value + 1
        zeros = code.bit_length() - 1
        digits = [0] * zeros + [code >> i & 1 for i in range(zeros, -1, -1)]
        self.encode_bits(digits, repeat(1 << BINARY_BITS - 1))

    def finish(self, least: int = 0) -> bytes:
        """Return the shortest bytes that identify all symbols, zeros added up to ``least``."""
        out = self._out
        for count in range(9):
            unit = 1 << 64 - 8 * count
            value = -(-self._low // unit) * unit
            if value < self._low + self._range:
                break
        if value >= _FULL:
            value -= _FULL
            _carry(out)
        out += value.to_bytes(8, "big")[:count]
        return bytes(out.rstrip(b"\0").ljust(least, b"\0"))


def _carry(out: bytearray) -> None:
    i = len(out) - 1
    while out[i] == 0xFF:
        out[i] = 0
        i -= 1
    out[i] += 1


class RangeDecoder:
    """Decodes the symbols of one segment.

    Args:
        data: the bytes of the segment.
        padding: the byte read past the end: 0, or 255 for the upper bound of a cut segment.
    """

    __slots__ = ("_code", "_data", "_padding", "_position", "_range")

    def __init__(self, data: bytes | memoryview, padding: int = 0) -> None:
        self._data = bytes(data)
        self._padding = padding
        head = self._data[:8]
        self._code = int.from_bytes(head + bytes([padding]) * (8 - len(head)), "big")
        self._range = _FULL - 1
        self._position = 8

    def decode_run(
        self, count: int, tables: Iterable[FrequencyTable], *, stop_at: int = -1
    ) -> list[int]:
        """Decode up to ``count`` symbols, the i-th by table ``i mod len(tables)``.

        Args:
            count: how many.
            tables: the tables that were used for encoding.
            stop_at: return right after this symbol.
        """
        code, width, position = self._code, self._range, self._position
        data, size, padding = self._data, len(self._data), self._padding
        symbols: list[int] = []
        for _, table in zip(range(count), cycle(tables), strict=False):
            starts, bits = table
            r = width >> bits
            value = code // r
            symbol = bisect_right(starts, value) - 1 if value >> bits == 0 else len(starts) - 2
            start = starts[symbol]
            stop = starts[symbol + 1]
            code -= r * start
            width = width - r * start if stop >> bits else r * (stop - start)
            while width < _TOP:
                code = code << 8 | (data[position] if position < size else padding)
                position += 1
                width <<= 8
            symbols.append(symbol)
            if symbol == stop_at:
                break
        self._code, self._range, self._position = code, width, position
        return symbols

    def decode_bits(self, zero_frequencies: Iterable[int]) -> list[int]:
        """Decode one binary decision for each frequency of a 0 (of 2^16)."""
        code, width, position = self._code, self._range, self._position
        data, size, padding = self._data, len(self._data), self._padding
        bits: list[int] = []
        append = bits.append
        for frequency in zero_frequencies:
            cut = (width >> 16) * frequency
            if code < cut:
                width = cut
                append(0)
            else:
                code -= cut
                width -= cut
                append(1)
            while width < _TOP:
                code = code << 8 | (data[position] if position < size else padding)
                position += 1
                width <<= 8
        self._code, self._range, self._position = code, width, position
        return bits

    def decode_trees(self, rows: Iterable[Sequence[int]], depth: int) -> list[int]:
        """Decode ``depth`` binary decisions for each row, which has a frequency for each node.

        Nodes form a heap: the first decision is node 1, and bit b at node m leads to 2 m + b.

        Returns:
            The node that each row's last decision leads to.
        """
        code, width, position = self._code, self._range, self._position
        data, size, padding = self._data, len(self._data), self._padding
        leaves: list[int] = []
        for row in rows:
            node = 1
            for _ in range(depth):
                cut = (width >> 16) * row[node]
                if code < cut:
                    width = cut
                    node += node
                else:
                    code -= cut
                    width -= cut
                    node += node + 1
                while width < _TOP:
                    code = code << 8 | (data[position] if position < size else padding)
                    position += 1
                    width <<= 8
            leaves.append(node)
        self._code, self._range, self._position = code, width, position
        return leaves

    def decode_exp_golomb(self) -> int:
        """Decode a number written by :meth:`RangeEncoder.encode_exp_golomb`.

        Raises:
            TokenFileError: if it has more than 32 leading zeros.
        """
        half = 1 << BINARY_BITS - 1
        zeros = 0
        while not self.decode_bits((half,))[0]:
            zeros += 1
            if zeros > _MOST_LEADING_ZEROS:
                raise MalformedError(
                    f"an escaped value of more than {_MOST_LEADING_ZEROS} bits near byte "
                    f"{self._position} of the segment"
                )
        code = 1
        for bit in self.decode_bits(repeat(half, zeros)):
            code = code << 1 | bit
        return code - 1

    def check_end(self, least: int = 0) -> None:
        """Check that the segment has a length that an encoder writes for what was decoded.

        Raises:
            TokenFileError: if bytes are left over or the last one is a zero too many.
        """
        size = len(self._data)
        if size > max(self._position, least):
            raise MalformedError(
                f"{size - self._position} byte(s) of a segment of {size} are left over"
            )
        if size > least and self._data[-1] == 0:
            raise MalformedError(f"a segment of {size} bytes ends in a zero; an encoder drops it")


def certain_prefix(data: bytes, decode: Callable[[RangeDecoder], Sequence[int]]) -> list[int]:
    """Return the leading symbols of a cut segment that no continuation can change.

    Args:
        data: the first bytes of the segment.
        decode: decodes all symbols of the segment from a fresh decoder.
    """
    low = decode(RangeDecoder(data, 0x00))
    high = decode(RangeDecoder(data, 0xFF))
    for i, (a, b) in enumerate(zip(low, high, strict=True)):
        if a != b:
            return list(low[:i])
    return list(low)


__all__ = ["BINARY_BITS", "RangeDecoder", "RangeEncoder", "certain_prefix"]
