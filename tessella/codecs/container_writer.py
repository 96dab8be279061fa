"""Writing of ``.tsl`` token files; the format is described in :mod:`tessella.codecs.container`."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

from tessella.codecs.byte_reader import Bytes, uvarint
from tessella.codecs.chunks import is_mandatory, write_chunks
from tessella.codecs.container import (
    FLAG_CENTRED,
    FLAG_CRCS,
    FLAG_DIGEST,
    FLAG_EXTRAS,
    FLAG_LAYOUT,
    ID_SIZES,
    MAGIC,
    VERSION,
    TokenFileHeader,
    parse_header,
)
from tessella.codecs.container_errors import MalformedError
from tessella.codecs.layout_bytes import write_layout
from tessella.codecs.limits import DEFAULT_LIMITS, Limits


def write(
    header: TokenFileHeader, segments: Sequence[Bytes], *, limits: Limits = DEFAULT_LIMITS
) -> bytes:
    """Return the bytes of a token file.

    ``lengths``, checksums and ``size`` of the header are computed, not read; files of several
    segments always get a checksum for each.

    Raises:
        TokenFileError: if the header is not one that :func:`parse` accepts.
    """
    if not segments:
        raise MalformedError("no segments given; a token file has at least one")
    has_crcs = header.has_segment_crcs or len(segments) > 1
    sizes = b"".join(uvarint(len(segment)) for segment in segments)
    crcs = [zlib.crc32(segment) for segment in segments] if has_crcs else []
    out = b"".join(
        (
            _write_start(replace(header, has_segment_crcs=has_crcs)),
            write_layout(header.layout) if header.layout else b"",
            uvarint(len(segments)) + sizes,
            b"".join(crc.to_bytes(4, "little") for crc in crcs),
            b"" if header.digest is None else header.digest.to_bytes(4, "little"),
            write_chunks(header.chunks) if header.chunks else b"",
        )
    )
    checksum = zlib.crc32(out)
    if not has_crcs:
        checksum = zlib.crc32(segments[0], checksum)
    data = b"".join((out, checksum.to_bytes(4, "little"), *segments))
    parse_header(data, limits=limits)  # never write what cannot be read back
    return data


def _write_start(header: TokenFileHeader) -> bytes:
    id_size = len(header.space_id)
    if id_size not in ID_SIZES or len(header.prior_id) != (id_size if header.profile else 0):
        raise MalformedError(
            f"space_id of {id_size} and prior_id of {len(header.prior_id)} bytes given for profile "
            f"{header.profile}; expected 4, 8, 16 or 32 each, and no prior_id for profile 0"
        )
    flags = (
        FLAG_EXTRAS * bool(header.chunks)
        | FLAG_CRCS * header.has_segment_crcs
        | FLAG_DIGEST * (header.digest is not None)
        | ID_SIZES.index(id_size) << 3
        | FLAG_LAYOUT * (header.layout is not None)
        | FLAG_CENTRED * header.is_centred
    )
    is_newer = any(is_mandatory(name) for name, _ in header.chunks)
    return b"".join(
        (
            MAGIC + bytes((VERSION + is_newer, flags)) + header.space_id,
            uvarint(header.width) + uvarint(header.height),
            bytes((header.colour, header.profile)) + header.prior_id,
        )
    )


__all__ = ["write"]
