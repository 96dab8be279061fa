"""Optional chunks of a token file: caption, class, colour profile, EXIF, metadata and so on.

A chunk is a name of four ASCII letters or digits and its bytes. A reader may ignore a name whose
first letter is upper-case; it must refuse an unknown name that starts otherwise. One such name is
known: ``kept``, see :mod:`tessella.codecs.group_counts`.
"""

from __future__ import annotations

import json
from typing import Any

from tessella.codecs.byte_reader import ByteReader, uvarint
from tessella.codecs.container_errors import LimitError, MalformedError, UnsupportedVersionError
from tessella.codecs.limits import DEFAULT_LIMITS, Limits

Chunks = tuple[tuple[str, bytes], ...]

KEPT = "kept"  # how many groups each position keeps; without it the segments mean nothing

MOST_SIDE = 7  # tiles of 2^7 x 2^7 positions
_JSON_CHUNKS = ("META", "ENVR")


def write_chunks(chunks: Chunks) -> bytes:
    """Serialise chunks, preceded by their total size."""
    body = b"".join(name.encode("ascii") + uvarint(len(data)) + data for name, data in chunks)
    return uvarint(len(body)) + body


def read_chunks(reader: ByteReader, limits: Limits) -> Chunks:
    """Read the chunks of a file and check those that are known.

    Raises:
        TokenFileError: if they are malformed, doubled, over a limit or mandatory and unknown.
    """
    start = reader.position
    total = reader.uvarint("size of the extras")
    if total > limits.extra_bytes:
        raise LimitError(
            f"extras of {total} bytes at byte {start}; the limit is {limits.extra_bytes} "
            "(Limits.extra_bytes)"
        )
    if total == 0:
        raise MalformedError(f"empty extras at byte {start}; expected at least one chunk")
    body = ByteReader(reader.data, reader.position, reader.position + total)
    reader.take(total, "extras")
    chunks: dict[str, bytes] = {}
    while body.position < body.end:
        offset = body.position
        name = _checked_name(body.take(4, "chunk name"), offset)
        if name in chunks:
            raise MalformedError(f"a second chunk {name} at byte {offset}; expected one")
        chunks[name] = body.take(body.uvarint(f"length of chunk {name}"), f"chunk {name}")
        _check_content(name, chunks[name], offset, limits)
    return tuple(chunks.items())


def _checked_name(raw: bytes, offset: int) -> str:
    if not (raw.isalnum() and raw.isascii()):
        raise MalformedError(f"chunk name {raw!r} at byte {offset}; expected 4 letters or digits")
    if not raw[:1].isupper() and raw != KEPT.encode():
        raise UnsupportedVersionError(
            f"chunk {raw.decode()} at byte {offset} is mandatory and unknown here; "
            "a newer version of the library may read it"
        )
    return raw.decode("ascii")


def _check_content(name: str, data: bytes, offset: int, limits: Limits) -> None:
    if name == "SEED" and len(data) != 4:
        raise MalformedError(f"chunk SEED at byte {offset} has {len(data)} bytes; expected 4")
    if name == KEPT and (not data or data[0] > MOST_SIDE):
        raise MalformedError(
            f"chunk kept at byte {offset} begins with {data[:1].hex() or 'nothing'}; expected a "
            f"side of tiles from 0 to {MOST_SIDE}"
        )
    if name == "CAPT":
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedError(f"chunk CAPT at byte {offset} is not UTF-8: {error}") from error
    if name in _JSON_CHUNKS:
        try:
            read_json(data, limits)
        except MalformedError as error:
            raise MalformedError(f"chunk {name} at byte {offset}: {error}") from error


def read_json(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Any:
    """Parse the JSON of a ``META`` or ``ENVR`` chunk, refusing deep nesting before it starts.

    Raises:
        MalformedError: if the bytes are not UTF-8 JSON or nest too deeply.
    """
    depth = deepest = 0
    in_string = escaped = False
    for byte in data:
        if in_string:
            in_string = escaped or byte != 0x22
            escaped = not escaped and byte == 0x5C
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    if deepest > limits.json_depth:
        raise MalformedError(f"JSON nested {deepest} deep; the limit is {limits.json_depth}")
    try:
        return json.loads(data.decode("utf-8"))
    except ValueError as error:
        raise MalformedError(f"not UTF-8 JSON: {error}") from error


def is_mandatory(name: str) -> bool:
    """Return whether a reader that does not know a chunk must refuse the file."""
    return not name[:1].isupper()


__all__ = [
    "KEPT",
    "MOST_SIDE",
    "Chunks",
    "is_mandatory",
    "read_chunks",
    "read_json",
    "write_chunks",
]
