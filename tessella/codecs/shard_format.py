"""The bytes of a shard: many pictures of one token space in one file.

All integers are little-endian; ``uvarint`` is minimal LEB128::

    header  magic 8E 54 53 48 | version u8 | flags u8 (b0 layout, b3-b4 id length) | space_id
            | colour u8 | profile u8 | prior_id if profile >= 1 | width, height uvarint
            | layout if b0 | crc u32
    record  2 * len(key) + special, uvarint | flags u8 if special | key UTF-8
            | width, height if b0 | layout if b1 | n_segments, lengths, crcs if b2, else length
            | crc u32 | segments
    index   00 | number of records uvarint | distance between records 0, 16, 32, ... uvarint each
            | crc u32
    footer  offset of the index u64 | 48 53 54 8E

A record's crc covers all of the record before it; with one segment also the segment, with several
(b2) each has its own. A record without a size has that of the header; without a layout, that of
the header if the size is also the header's, else the model's own.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tessella.codecs.byte_reader import ByteReader, Bytes, uvarint
from tessella.codecs.container import COLOUR_SRGB, ID_SIZES, PROFILE_NETWORK, PROFILE_RAW
from tessella.codecs.container_errors import (
    BadMagicError,
    ChecksumError,
    LimitError,
    MalformedError,
    UnsupportedVersionError,
)
from tessella.codecs.layout_bytes import read_layout, write_layout
from tessella.codecs.limits import Limits
from tessella.codecs.stored_layout import StoredLayout

MAGIC = b"\x8eTSH"
FOOTER_MAGIC = MAGIC[::-1]
FOOTER_SIZE = 12
VERSION = 0x10
INDEX_MARK = 0
INDEX_STRIDE = 16

_OWN_SIZE, _OWN_LAYOUT, _SEVERAL = 1, 2, 4
_MOST_KEY_BYTES = 4096


@dataclass(frozen=True, slots=True)
class ShardHeader:
    """What all pictures of a shard share.

    Args:
        space_id: prefix (4, 8, 16 or 32 bytes) of the identity of the token space.
        width: default width in pixels.
        height: default height in pixels.
        profile: entropy profile of all pictures.
        prior_id: prefix of the identity of the prior; empty for profile 0.
        colour: 0 for 8-bit sRGB, 1 for grey.
        layout: default layout of pictures of the default size.
        size: bytes of the header (set by the reader).
    """

    space_id: bytes
    width: int
    height: int
    profile: int = PROFILE_RAW
    prior_id: bytes = b""
    colour: int = COLOUR_SRGB
    layout: StoredLayout | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """One picture of a shard.

    Args:
        key: its name, unique in the shard.
        width: in pixels.
        height: in pixels.
        layout: its own layout, if it differs from what the header or the model say.
        lengths: bytes of each segment.
        segment_crcs: checksum of each segment if there are several.
        crc: the record's checksum.
        start: offset of the record.
        body: offset of its segments.
    """

    key: str
    width: int
    height: int
    layout: StoredLayout | None
    lengths: tuple[int, ...]
    segment_crcs: tuple[int, ...]
    crc: int
    start: int
    body: int

    @property
    def stop(self) -> int:
        """Offset of the byte after the record."""
        return self.body + sum(self.lengths)


def write_header(header: ShardHeader) -> bytes:
    """Return the bytes of a shard's header."""
    id_size = len(header.space_id)
    if id_size not in ID_SIZES or len(header.prior_id) != (id_size if header.profile else 0):
        raise MalformedError(
            f"space_id of {id_size} and prior_id of {len(header.prior_id)} bytes given for profile "
            f"{header.profile}; expected 4, 8, 16 or 32 each, and no prior_id for profile 0"
        )
    flags = (header.layout is not None) | ID_SIZES.index(id_size) << 3
    out = b"".join(
        (
            MAGIC + bytes((VERSION, flags)) + header.space_id,
            bytes((header.colour, header.profile)) + header.prior_id,
            uvarint(header.width) + uvarint(header.height),
            write_layout(header.layout) if header.layout else b"",
        )
    )
    return out + zlib.crc32(out).to_bytes(4, "little")


def read_header(data: Bytes, limits: Limits) -> ShardHeader:
    """Read and verify the header of a shard.

    Raises:
        TokenFileError: saying what is wrong, and at which byte.
    """
    reader = ByteReader(data)
    magic = reader.take(4, "magic")
    if magic != MAGIC:
        raise BadMagicError(
            f"the file begins with {magic.hex(' ')}; a shard begins with {MAGIC.hex(' ')}"
        )
    version = reader.byte("version")
    if version >> 4 != VERSION >> 4:
        raise UnsupportedVersionError(f"shard version {version >> 4}.{version & 15} at byte 4")
    flags = reader.byte("flags")
    if flags & ~0x19:
        raise MalformedError(f"flags {flags:#04x} at byte 5 have reserved bits set")
    space_id = reader.take(ID_SIZES[flags >> 3], "space_id")
    colour, profile = reader.byte("colour"), reader.byte("profile")
    if colour > 1 or profile > PROFILE_NETWORK:
        raise MalformedError(
            f"colour {colour}, profile {profile} before byte {reader.position}; expected at most "
            f"1 and {PROFILE_NETWORK}"
        )
    prior_id = reader.take(len(space_id), "prior_id") if profile else b""
    width, height = _read_size(reader, limits)
    layout = read_layout(reader, limits) if flags & 1 else None
    stop = reader.position
    _check(bytes(data[:stop]), reader.u32("header checksum"), "header", 0)
    return ShardHeader(space_id, width, height, profile, prior_id, colour, layout, reader.position)


def write_record(
    header: ShardHeader,
    key: str,
    size: tuple[int, int],
    layout: StoredLayout | None,
    segments: Sequence[bytes],
) -> bytes:
    """Return the bytes of a record; ``size`` is ``(width, height)``."""
    name = key.encode("utf-8")
    if not 1 <= len(name) <= _MOST_KEY_BYTES or not segments:
        raise MalformedError(
            f"a key of {len(name)} bytes and {len(segments)} segments given; expected 1 to "
            f"{_MOST_KEY_BYTES} bytes and at least 1 segment"
        )
    own_size = size != (header.width, header.height)
    several = len(segments) > 1
    flags = _OWN_SIZE * own_size | _OWN_LAYOUT * (layout is not None) | _SEVERAL * several
    out = uvarint(2 * len(name) + bool(flags)) + (bytes((flags,)) if flags else b"") + name
    if own_size:
        out += uvarint(size[0]) + uvarint(size[1])
    if layout is not None:
        out += write_layout(layout)
    if several:
        out += uvarint(len(segments))
    out += b"".join(uvarint(len(segment)) for segment in segments)
    if several:
        out += b"".join(zlib.crc32(segment).to_bytes(4, "little") for segment in segments)
    crc = zlib.crc32(out) if several else zlib.crc32(segments[0], zlib.crc32(out))
    return b"".join((out, crc.to_bytes(4, "little"), *segments))


def read_record(data: Bytes, start: int, header: ShardHeader, limits: Limits) -> ShardRecord:
    """Read the head of the record at ``start``; its checksums are not verified yet.

    Raises:
        TokenFileError: saying what is wrong, and at which byte.
    """
    reader = ByteReader(data, start)
    code = reader.uvarint("record head")
    flags = reader.byte("record flags") if code & 1 else 0
    if not 2 <= code <= 2 * _MOST_KEY_BYTES + 1 or bool(flags) != bool(code & 1) or flags > 7:
        raise MalformedError(f"head {code}, flags {flags} at byte {start} are those of no record")
    try:
        key = reader.take(code >> 1, "key").decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(f"the key of the record at byte {start} is not UTF-8") from error
    width, height = header.width, header.height
    if flags & _OWN_SIZE:
        width, height = _read_size(reader, limits)
    layout = read_layout(reader, limits) if flags & _OWN_LAYOUT else None
    count = reader.uvarint("number of segments") if flags & _SEVERAL else 1
    if count > limits.segments or (flags & _SEVERAL and count < 2):
        raise LimitError(
            f"{count} segments at byte {reader.position}; expected 2 to {limits.segments}"
        )
    lengths = tuple(reader.uvarint("segment length") for _ in range(count))
    crcs = tuple(reader.u32("segment checksum") for _ in lengths) if count > 1 else ()
    crc = reader.u32("record checksum")
    return ShardRecord(key, width, height, layout, lengths, crcs, crc, start, reader.position)


def read_segments(data: Bytes, record: ShardRecord) -> list[bytes]:
    """Return the verified segments of a record.

    Raises:
        TokenFileError: if a checksum fails or the data ends early.
    """
    reader = ByteReader(data, record.body)
    segments = [reader.take(n, f"record {record.key!r}") for n in record.lengths]
    head = bytes(data[record.start : record.body - 4])
    what = f"record {record.key!r}"
    _check(head if record.segment_crcs else head + segments[0], record.crc, what, record.start)
    offset = record.body
    for i, crc in enumerate(record.segment_crcs):
        _check(segments[i], crc, f"segment {i} of {what}", offset)
        offset += len(segments[i])
    return segments


def write_index(offsets: Sequence[int], count: int, start: int) -> bytes:
    """Return index and footer for an index that begins at ``start``.

    Args:
        offsets: offset of every 16th record.
        count: number of records.
        start: where the index will be.
    """
    distances = (b - a for a, b in pairwise(offsets))
    out = bytes((INDEX_MARK,)) + uvarint(count) + b"".join(map(uvarint, distances))
    crc = zlib.crc32(out).to_bytes(4, "little")
    return out + crc + start.to_bytes(8, "little") + FOOTER_MAGIC


def read_index(data: Bytes, header: ShardHeader) -> tuple[list[int], int, int]:
    """Return the offset of every 16th record, the number of records and where the index begins.

    Raises:
        TokenFileError: if there is no footer or the index is damaged.
    """
    end = len(data) - FOOTER_SIZE
    if end < header.size or bytes(data[end + 8 :]) != FOOTER_MAGIC:
        raise MalformedError(
            f"no footer in the last {FOOTER_SIZE} of {len(data)} bytes: the writer did not finish; "
            "open the shard with recover=True"
        )
    start = int.from_bytes(data[end : end + 8], "little")
    if not header.size <= start < end:
        raise MalformedError(f"the footer at byte {end} points to byte {start}, outside the file")
    reader = ByteReader(data, start, end)
    if reader.byte("index mark") != INDEX_MARK:
        raise MalformedError(f"no index at byte {start}, where the footer points")
    count = reader.uvarint("number of records")
    blocks = -(-count // INDEX_STRIDE)
    if blocks > end - start:
        raise MalformedError(
            f"{count} records at byte {start + 1}; the index is too short for them"
        )
    offsets = [header.size][:blocks]
    for _ in range(blocks - 1):
        offsets.append(offsets[-1] + reader.uvarint("distance"))
    stop = reader.position
    _check(bytes(data[start:stop]), reader.u32("index checksum"), "index", start)
    if reader.position != end:
        raise MalformedError(f"{end - reader.position} byte(s) between index and footer")
    return offsets, count, start


def _read_size(reader: ByteReader, limits: Limits) -> tuple[int, int]:
    start = reader.position
    width, height = reader.uvarint("width"), reader.uvarint("height")
    if min(width, height) < 1:
        raise MalformedError(f"size {width}x{height} at byte {start}; expected at least 1x1")
    if max(width, height) > limits.side or width * height > limits.pixels:
        raise LimitError(
            f"size {width}x{height} at byte {start}; the limits are {limits.side} a side and "
            f"{limits.pixels} pixels (Limits.side, Limits.pixels)"
        )
    return width, height


def _check(data: bytes, stored: int, what: str, offset: int) -> None:
    computed = zlib.crc32(data)
    if computed != stored:
        raise ChecksumError(
            f"{what} at byte {offset}: checksum {computed:08x}, the shard says {stored:08x}; "
            "it is damaged"
        )


__all__ = [
    "INDEX_MARK",
    "INDEX_STRIDE",
    "ShardHeader",
    "ShardRecord",
    "read_header",
    "read_index",
    "read_record",
    "read_segments",
    "write_header",
    "write_index",
    "write_record",
]
