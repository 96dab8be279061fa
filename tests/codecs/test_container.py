"""The container of token files: what is written is read, and nothing stays unchecked."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tessella.codecs.container as container_module
from tessella.codecs.byte_reader import ByteReader, uvarint
from tessella.codecs.chunks import read_json
from tessella.codecs.container import TokenFileHeader, parse, parse_header
from tessella.codecs.container_errors import (
    ChecksumError,
    LimitError,
    MalformedError,
    TruncatedError,
    UnsupportedVersionError,
)
from tessella.codecs.container_writer import write
from tessella.codecs.limits import Limits
from tessella.codecs.stored_layout import StoredLayout, StoredLevel, split_parts
from tessella.errors import TokenFileError

NAMES = st.sampled_from(["CAPT", "ICCP", "EXIF", "Abcd", "X123"])
CHUNKS = st.dictionaries(NAMES, st.binary(max_size=40).map(lambda b: b.hex().encode()), max_size=3)
GRIDS = st.tuples(st.integers(1, 300), st.integers(1, 300)) | st.tuples(st.integers(1, 5000))
SIZES = st.lists(st.integers(2, 2**20), min_size=1, max_size=8).map(tuple)


@st.composite
def levels(draw: st.DrawFn) -> StoredLevel:
    grid = draw(GRIDS)
    orders = ["none", "groups"] + (["length"] if len(grid) == 1 else [])
    order = draw(st.sampled_from(orders))
    if draw(st.booleans()):
        return StoredLevel(grid, draw(SIZES), 0, order)
    channels = draw(st.integers(1, 40))
    exponent, bits = draw(st.integers(-20, 20)), draw(st.integers(0, 16))
    return StoredLevel(grid, (), channels, order, exponent, bits)


LAYOUTS = (
    st.lists(levels(), min_size=1, max_size=4).map(lambda found: StoredLayout(tuple(found)))
    | st.builds(
        lambda sizes, grids: StoredLayout(tuple(StoredLevel(g, sizes) for g in grids)),
        SIZES,
        st.lists(GRIDS, min_size=1, max_size=10),
    )
    | st.integers(1, 63).map(lambda parts: StoredLayout(derived_parts=parts))
    | st.integers(1, 2**15).map(lambda length: StoredLayout(derived_length=length))
    | st.tuples(st.integers(-20, 20), st.integers(0, 16)).map(
        lambda found: StoredLayout(quantisation=found)
    )
)


@st.composite
def headers(draw: st.DrawFn) -> TokenFileHeader:
    size = draw(st.sampled_from([4, 8, 16, 32]))
    profile = draw(st.integers(0, 4))
    needs_digest = profile == 4
    return TokenFileHeader(
        draw(st.binary(min_size=size, max_size=size)),
        draw(st.integers(1, 65535)),
        draw(st.integers(1, 2000)),
        profile,
        draw(st.binary(min_size=size, max_size=size)) if profile else b"",
        draw(st.integers(0, 1)),
        draw(st.none() | LAYOUTS),
        draw(st.integers(0, 2**32 - 1) if needs_digest else st.none() | st.just(7)),
        tuple(draw(CHUNKS).items()),
        draw(st.booleans()),
        draw(st.booleans()),
    )


@given(headers(), st.data())
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read(header: TokenFileHeader, data: st.DataObject) -> None:
    counts = [1]
    if header.layout is None:
        counts = [1, 2, 5]
    elif header.layout.levels:
        counts = [1, len(split_parts(header.layout.levels))]
    count = data.draw(st.sampled_from(counts))
    segments = [data.draw(st.binary(max_size=60)) for _ in range(count)]
    limits = Limits(tokens=2**40)
    file = parse(write(header, segments, limits=limits), limits=limits)
    assert [bytes(segment) for segment in file.segments] == segments
    assert file.header == replace(
        header,
        has_segment_crcs=header.has_segment_crcs or count > 1,
        lengths=tuple(map(len, segments)),
        segment_crcs=file.header.segment_crcs,
        checksum=file.header.checksum,
        size=file.header.size,
    )
    assert not file.is_truncated and file.is_verified


PLAIN = TokenFileHeader(b"\x01\x02\x03\x04", 768, 512)


def test_bytes_of_a_small_file() -> None:
    # written out by hand, field by field
    start = bytes.fromhex("8e544f4b 10 08 01020304 8006 8004 00 00 01 03")
    crc = zlib.crc32(start + b"abc").to_bytes(4, "little")
    assert write(PLAIN, [b"abc"]) == start + crc + b"abc"


def test_bytes_of_a_file_of_two_segments() -> None:
    start = bytes.fromhex("8e544f4b 10 0a 01020304 8006 8004 00 01 05060708 02 03 00")
    start += zlib.crc32(b"abc").to_bytes(4, "little") + zlib.crc32(b"").to_bytes(4, "little")
    crc = zlib.crc32(start).to_bytes(4, "little")
    header = replace(PLAIN, profile=1, prior_id=b"\x05\x06\x07\x08")
    assert write(header, [b"abc", b""]) == start + crc + b"abc"


@pytest.mark.parametrize("parts", [None, 8])
def test_one_segment_costs_at_most_28_bytes(parts: int | None) -> None:
    layout = StoredLayout(derived_parts=parts) if parts else None
    header = TokenFileHeader(b"1234", 16383, 8191, 2, b"5678", layout=layout)
    for size in (0, 48, 16383):
        assert len(write(header, [b"x" * size])) - size <= 28


def test_every_changed_byte_is_noticed() -> None:
    for segments in ([b"payload"], [b"pay", b"load"]):
        data = write(PLAIN, segments)
        for i in range(len(data)):
            changed = bytearray(data)
            changed[i] ^= 0x40
            with pytest.raises(TokenFileError):
                parse(bytes(changed))


def test_cut_file_gives_whole_segments() -> None:
    segments = [b"first", b"", b"second", b"third"]
    data = write(PLAIN, segments)
    size = parse_header(data).size
    for cut in range(size, len(data)):
        with pytest.raises(TruncatedError, match="announces"):
            parse(data[:cut])
        file = parse(data[:cut], allow_truncated=True)
        arrived = cut - size
        whole = 0
        while sum(map(len, segments[: whole + 1])) <= arrived:
            whole += 1
        assert file.is_truncated and file.is_verified
        assert [bytes(s) for s in file.segments] == segments[:whole]
        assert bytes(file.partial) == data[size:cut][sum(map(len, segments[:whole])) :]
    for cut in range(size):
        with pytest.raises(TokenFileError):
            parse(data[:cut], allow_truncated=True)


def test_cut_file_of_one_segment_is_not_verified() -> None:
    data = write(PLAIN, [b"one segment"])
    file = parse(data[:-3], allow_truncated=True)
    assert file.segments == () and file.is_truncated and not file.is_verified
    assert bytes(file.partial) == b"one segm"
    with_crc = write(replace(PLAIN, has_segment_crcs=True), [b"one segment"])
    assert parse(with_crc[:-3], allow_truncated=True).is_verified


def test_damage_is_located() -> None:
    data = bytearray(write(PLAIN, [b"first", b"second"]))
    data[-1] ^= 1
    with pytest.raises(ChecksumError, match=rf"segment 1 \(bytes {len(data) - 6} to {len(data)}\)"):
        parse(bytes(data), allow_truncated=True)


def test_limits_may_be_raised() -> None:
    header = replace(PLAIN, width=60000, height=60000)
    with pytest.raises(LimitError, match=r"Limits\.pixels"):
        write(header, [b""])
    data = write(header, [b""], limits=Limits(pixels=2**40))
    with pytest.raises(LimitError, match="60000x60000 at byte 10"):
        parse(data)
    assert parse(data, limits=Limits(pixels=2**40)).header.width == 60000


def test_a_large_picture_passes_the_default_limits() -> None:
    level = StoredLevel((1000, 1500), (256,) * 8, 0, "groups")
    header = replace(PLAIN, width=12000, height=8000, layout=StoredLayout((level,)))
    assert parse(write(header, [b""] * 8)).header.layout == header.layout


@pytest.mark.parametrize(
    ("chunks", "error"),
    [
        ((("CAPT", b"\xff"),), "UTF-8"),
        ((("SEED", b"123"),), "expected 4"),
        ((("META", b"{"),), "JSON"),
        ((("META", b"[" * 9 + b"]" * 9),), "nested 9"),
        ((("ENVR", b"\xff"),), "JSON"),
        ((("A?cd", b""),), "letters or digits"),
        ((("CAPT", b"a"), ("CAPT", b"b")), "second chunk"),
        ((("CAPT", b"a" * 2**20),), "extras"),
    ],
)
def test_bad_chunks_are_refused(chunks: tuple[tuple[str, bytes], ...], error: str) -> None:
    with pytest.raises(TokenFileError, match=error):
        write(replace(PLAIN, chunks=chunks), [b""])


def test_unknown_chunks_are_kept_unless_mandatory() -> None:
    data = write(replace(PLAIN, chunks=(("Zzzz", b"new"),)), [b""])
    assert parse(data).header.chunks == (("Zzzz", b"new"),)
    with pytest.raises(UnsupportedVersionError, match="mandatory"):
        write(replace(PLAIN, chunks=(("zzzz", b"new"),)), [b""])


TEXTS = st.text(max_size=4)


@given(
    st.recursive(
        TEXTS | st.integers(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=2),
        max_leaves=8,
    )
    | st.integers(6, 12).map(lambda n: json.loads("[" * n + '"]"' + "]" * n))
)
@settings(max_examples=60, deadline=None)
def test_json_depth_is_counted_outside_strings(value: object) -> None:
    def depth(v: object) -> int:
        inner = v.values() if isinstance(v, dict) else v if isinstance(v, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    data = json.dumps(value, ensure_ascii=False).encode()
    if depth(value) <= 8:
        assert read_json(data) == value
    else:
        with pytest.raises(MalformedError, match="nested"):
            read_json(data)


@given(st.integers(0, 2**32 - 1))
def test_uvarints_round_trip_in_their_shortest_form(value: int) -> None:
    data = uvarint(value)
    assert len(data) == max(1, -(-value.bit_length() // 7))
    assert ByteReader(data).uvarint("value") == value
    longer = data[:-1] + bytes((data[-1] | 0x80, 0))
    with pytest.raises(MalformedError, match="value at byte 0"):
        ByteReader(longer).uvarint("value")


def test_bad_headers_are_not_written() -> None:
    for bad in (
        replace(PLAIN, space_id=b"123"),
        replace(PLAIN, prior_id=b"1234"),
        replace(PLAIN, profile=1),
        replace(PLAIN, width=0),
        replace(PLAIN, profile=4, prior_id=b"1234"),
    ):
        with pytest.raises(TokenFileError):
            write(bad, [b""])
    with pytest.raises(TokenFileError, match="no segments"):
        write(PLAIN, [])


def test_parser_is_short_and_needs_neither_torch_nor_numpy() -> None:
    source = Path(container_module.__file__)
    assert len(source.read_text().splitlines()) <= 300
    code = (
        "import sys; import tessella.codecs.container, tessella.codecs.container_writer; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
