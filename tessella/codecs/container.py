"""The ``.tsl`` token file: a checked header and the bytes of its segments, nothing more.

Pure Python without torch or numpy, so that hostile files can be refused quickly. All integers are
little-endian; ``uvarint`` is minimal LEB128::

    magic 8E 54 4F 4B | version u8 | flags u8 | space_id | width, height uvarint | colour u8
    | profile u8 | prior_id if profile >= 1 | layout if b5 | n_segments uvarint | lengths uvarint
    | crcs u32 each if b1 | digest u32 if b2 | extras if b0 | checksum u32 | segments

With b1 each segment has its own CRC-32 and the final checksum covers the header alone; without b1
the final checksum covers the header and all segments, so nothing in a file is ever unchecked.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from tessella.codecs.byte_reader import ByteReader, Bytes
from tessella.codecs.chunks import Chunks, read_chunks
from tessella.codecs.container_errors import (
    BadMagicError,
    ChecksumError,
    LimitError,
    MalformedError,
    TruncatedError,
    UnsupportedVersionError,
)
from tessella.codecs.layout_bytes import read_layout
from tessella.codecs.limits import DEFAULT_LIMITS, Limits
from tessella.codecs.stored_layout import StoredLayout, split_parts

MAGIC = b"\x8eTOK"
VERSION = 0x10  # a file with a mandatory chunk says 0x11
COLOUR_SRGB = 0
COLOUR_GREY = 1
PROFILE_RAW = 0
PROFILE_STATIC = 1
PROFILE_ADAPTIVE = 2
PROFILE_NETWORK = 3
PROFILE_DEVICE_BOUND = 4

ID_SIZES = (8, 4, 16, 32)
FLAG_EXTRAS, FLAG_CRCS, FLAG_DIGEST, FLAG_LAYOUT, FLAG_CENTRED, FLAG_RESERVED = 1, 2, 4, 32, 64, 128

_NOTHING = memoryview(b"")


@dataclass(frozen=True, slots=True)
class TokenFileHeader:
    """What a token file says about itself.

    Args:
        space_id: prefix (4, 8, 16 or 32 bytes) of the identity of the token space.
        width: of the picture before padding, in pixels.
        height: of the picture before padding, in pixels.
        profile: entropy profile 0 to 4.
        prior_id: prefix of the identity of the entropy model; empty for profile 0.
        colour: 0 for 8-bit sRGB, 1 for grey.
        layout: explicit layout; None when it follows from the model and the picture size.
        digest: CRC-32 of all tokens, if stored.
        chunks: optional chunks, name and bytes.
        is_centred: whether padding was put around the picture instead of right and below.
        has_segment_crcs: whether each segment carries its own checksum.
        lengths: bytes of each segment (set by the writer).
        segment_crcs: checksum of each segment, if it has one.
        checksum: the final checksum field.
        size: bytes of the header, where the segments begin.
    """

    space_id: bytes
    width: int
    height: int
    profile: int = PROFILE_RAW
    prior_id: bytes = b""
    colour: int = COLOUR_SRGB
    layout: StoredLayout | None = None
    digest: int | None = None
    chunks: Chunks = ()
    is_centred: bool = False
    has_segment_crcs: bool = False
    lengths: tuple[int, ...] = ()
    segment_crcs: tuple[int, ...] = ()
    checksum: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A parsed token file.

    Args:
        header: its header.
        segments: the complete segments, all checked.
        is_truncated: whether segments are missing at the end.
        is_verified: whether checksums cover all that is here; False only for a truncated file
            whose single checksum needs the missing bytes.
        partial: the bytes of the first incomplete segment, never verified.
    """

    header: TokenFileHeader
    segments: tuple[memoryview, ...]
    is_truncated: bool = False
    is_verified: bool = True
    partial: memoryview = _NOTHING


def parse_header(data: Bytes, *, limits: Limits = DEFAULT_LIMITS) -> TokenFileHeader:
    """Read the header of a token file.

    The checksum is verified here when it covers the header alone; otherwise :func:`parse` does.

    Raises:
        TokenFileError: saying what is wrong, and at which byte.
    """
    reader = ByteReader(data)
    flags = _read_start(reader)
    id_size = ID_SIZES[flags >> 3 & 3]
    space_id = reader.take(id_size, "space_id")
    width, height = _read_size(reader, limits)
    colour = reader.byte("colour")
    if colour > COLOUR_GREY:
        raise MalformedError(f"colour {colour} at byte {reader.position - 1}; expected 0 or 1")
    profile = _read_profile(reader, flags)
    prior_id = reader.take(id_size, "prior_id") if profile else b""
    layout = read_layout(reader, limits) if flags & FLAG_LAYOUT else None
    lengths = _read_lengths(reader, layout, limits)
    crcs: tuple[int, ...] = ()
    if flags & FLAG_CRCS:
        crcs = tuple(reader.u32("segment checksum") for _ in lengths)
    digest = reader.u32("digest") if flags & FLAG_DIGEST else None
    if reader.position > limits.header_bytes:
        raise LimitError(f"header of {reader.position} bytes; the limit is {limits.header_bytes}")
    chunks = read_chunks(reader, limits) if flags & FLAG_EXTRAS else ()
    checksum = reader.u32("header checksum")
    header = TokenFileHeader(
        space_id,
        width,
        height,
        profile,
        prior_id,
        colour,
        layout,
        digest,
        chunks,
        bool(flags & FLAG_CENTRED),
        bool(flags & FLAG_CRCS),
        lengths,
        crcs,
        checksum,
        reader.position,
    )
    if header.has_segment_crcs:
        _check_crc("header", memoryview(data)[: header.size - 4], checksum, 0)
    return header


def _read_start(reader: ByteReader) -> int:
    magic = reader.take(4, "magic")
    if magic != MAGIC:
        raise BadMagicError(
            f"the file begins with {magic.hex(' ')}; a token file begins with {MAGIC.hex(' ')}"
        )
    version = reader.byte("version")
    if version >> 4 != VERSION >> 4:
        raise UnsupportedVersionError(
            f"version {version >> 4}.{version & 15} at byte 4; this reader knows {VERSION >> 4}.x"
        )
    flags = reader.byte("flags")
    if flags & FLAG_RESERVED:
        raise MalformedError(f"flags {flags:#04x} at byte 5 have the reserved bit 7 set")
    return flags


def _read_size(reader: ByteReader, limits: Limits) -> tuple[int, int]:
    start = reader.position
    width = reader.uvarint("width")
    height = reader.uvarint("height")
    if width < 1 or height < 1:
        raise MalformedError(f"size {width}x{height} at byte {start}; expected at least 1x1")
    if max(width, height) > limits.side or width * height > limits.pixels:
        raise LimitError(
            f"size {width}x{height} at byte {start}; the limits are {limits.side} a side and "
            f"{limits.pixels} pixels (Limits.side, Limits.pixels)"
        )
    return width, height


def _read_profile(reader: ByteReader, flags: int) -> int:
    profile = reader.byte("profile")
    if profile > PROFILE_DEVICE_BOUND:
        raise UnsupportedVersionError(
            f"entropy profile {profile} at byte {reader.position - 1}; this reader knows 0 to 4"
        )
    if profile == PROFILE_DEVICE_BOUND and not flags & FLAG_DIGEST:
        raise MalformedError("entropy profile 4 without a digest (flag bit 2); it needs one")
    return profile


def _read_lengths(
    reader: ByteReader, layout: StoredLayout | None, limits: Limits
) -> tuple[int, ...]:
    start = reader.position
    count = reader.uvarint("number of segments")
    if count < 1:
        raise MalformedError(f"0 segments at byte {start}; expected at least 1")
    if count > limits.segments:
        raise LimitError(f"{count} segments at byte {start}; the limit is {limits.segments}")
    if layout is not None and count != 1:
        parts = len(split_parts(layout.levels)) if layout.levels else 1
        if count != parts:
            raise MalformedError(
                f"{count} segments at byte {start}; the layout allows 1 or {parts}"
            )
    return tuple(reader.uvarint("segment length") for _ in range(count))


def _check_crc(what: str, data: memoryview, stored: int, offset: int, start: int = 0) -> None:
    computed = zlib.crc32(data, start)
    if computed != stored:
        raise ChecksumError(
            f"{what} (bytes {offset} to {offset + len(data)}): checksum {computed:08x}, the file "
            f"says {stored:08x}; the file is damaged"
        )


def parse(
    data: Bytes, *, limits: Limits = DEFAULT_LIMITS, allow_truncated: bool = False
) -> TokenFile:
    """Read a token file, verifying all checksums; segments are views of ``data``.

    Args:
        data: the whole file.
        limits: what to accept.
        allow_truncated: return what arrived of a file that ends early.

    Raises:
        TokenFileError: saying what is wrong, and at which byte.
    """
    header = parse_header(data, limits=limits)
    view = memoryview(data)
    body = view[header.size :]
    total = sum(header.lengths)
    if len(body) > total:
        raise MalformedError(
            f"{len(body) - total} byte(s) after the last segment, from byte {header.size + total}"
        )
    if len(body) < total and not allow_truncated:
        raise TruncatedError(
            f"the file has {len(data)} bytes; its header announces {header.size + total}"
        )
    is_verified = header.has_segment_crcs or len(body) == total
    if is_verified and not header.has_segment_crcs:
        crc = zlib.crc32(view[: header.size - 4])
        _check_crc("file", body, header.checksum, header.size, crc)
    segments, used = _read_segments(header, body)
    partial = body[used : used + header.lengths[len(segments)]] if used < total else view[:0]
    return TokenFile(header, segments, len(body) < total, is_verified, partial)


def _read_segments(header: TokenFileHeader, body: memoryview) -> tuple[tuple[memoryview, ...], int]:
    segments = []
    used = 0
    for i, length in enumerate(header.lengths):
        if used + length > len(body):
            break
        segment = body[used : used + length]
        if header.has_segment_crcs:
            _check_crc(f"segment {i}", segment, header.segment_crcs[i], header.size + used)
        segments.append(segment)
        used += length
    return tuple(segments), used


__all__ = [
    "COLOUR_GREY",
    "COLOUR_SRGB",
    "PROFILE_ADAPTIVE",
    "PROFILE_DEVICE_BOUND",
    "PROFILE_NETWORK",
    "PROFILE_RAW",
    "PROFILE_STATIC",
    "TokenFile",
    "TokenFileHeader",
    "parse",
    "parse_header",
]
