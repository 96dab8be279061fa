"""Bounded reading of header fields from bytes; every failure names the field and its offset.

``uvarint`` is LEB128 in its minimal form: seven bits a byte, least significant first, at most five
bytes, values below 2^32.
"""

from __future__ import annotations

from mmap import mmap

from tessella.codecs.container_errors import MalformedError, TruncatedError

Bytes = bytes | bytearray | memoryview | mmap


class ByteReader:
    """A cursor over bytes that never reads past ``end``."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: Bytes, position: int = 0, end: int | None = None) -> None:
        self.data = data
        self.position = position
        self.end = len(data) if end is None else end

    def byte(self, what: str) -> int:
        """Read one byte."""
        if self.position >= self.end:
            raise self._ended(what, 1)
        value = self.data[self.position]
        self.position += 1
        return value

    def take(self, count: int, what: str) -> bytes:
        """Read ``count`` bytes."""
        stop = self.position + count
        if stop > self.end:
            raise self._ended(what, count)
        value = bytes(self.data[self.position : stop])
        self.position = stop
        return value

    def u32(self, what: str) -> int:
        """Read four bytes, least significant first."""
        return int.from_bytes(self.take(4, what), "little")

    def u64(self, what: str) -> int:
        """Read eight bytes, least significant first."""
        return int.from_bytes(self.take(8, what), "little")

    def uvarint(self, what: str) -> int:
        """Read a minimal LEB128 number below 2^32."""
        start = self.position
        value = shift = 0
        while True:
            byte = self.byte(what)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 28:
                raise MalformedError(f"{what} at byte {start} has more than 5 bytes; at most 5")
        if byte == 0 and shift:
            raise MalformedError(f"{what} at byte {start} is not in its shortest form")
        if value >> 32:
            raise MalformedError(f"{what} at byte {start} is {value}; expected less than 2^32")
        return value

    def _ended(self, what: str, count: int) -> TruncatedError:
        return TruncatedError(
            f"the data ends at byte {self.end}; {what} needs {count} byte(s) from byte "
            f"{self.position}"
        )


def uvarint(value: int) -> bytes:
    """Write a number below 2^32 as minimal LEB128."""
    if not 0 <= value < 1 << 32:
        raise MalformedError(f"{value} given for a uvarint; expected 0 to 2^32 - 1")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


__all__ = ["ByteReader", "Bytes", "uvarint"]
