"""Hostile token files: refused with one kind of error, quickly, and in little memory."""

from __future__ import annotations

import random
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import golden_files
import malformed
import pytest

from tessella.codecs.container import TokenFile, parse, parse_header
from tessella.codecs.container_writer import write
from tessella.codecs.limits import Limits
from tessella.codecs.token_codec import unpack
from tessella.codecs.token_space import resolver_for
from tessella.errors import TokenFileError

GOLDEN = [golden_files.load(name) for name in golden_files.NAMES]
MALFORMED = dict(malformed.malformed_files())
MEGABYTE = 2**20


def test_the_patterns_of_malformed_files_are_good_themselves() -> None:
    for make in (malformed.one_segment, malformed.three_segments):
        data = malformed.assemble(make())
        file = parse(data)
        assert b"".join(file.segments) == make()["payload"]
        assert write(file.header, file.segments) == data


def test_there_are_many_malformed_files() -> None:
    names = [name for name, _ in malformed.malformed_files()]
    assert len(names) == len(set(names)) >= 200
    assert len(set(MALFORMED.values())) >= 200


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_file_is_refused(name: str) -> None:
    with pytest.raises(TokenFileError) as found:
        parse(MALFORMED[name])
    assert str(found.value)
    try:
        file = parse(MALFORMED[name], allow_truncated=True)
    except TokenFileError:
        return
    assert file.is_truncated


@pytest.mark.parametrize("golden", GOLDEN, ids=golden_files.NAMES)
def test_every_truncation_is_noticed(golden: golden_files.Golden) -> None:
    size = parse_header(golden.data).size
    for cut in range(len(golden.data)):
        data = golden.data[:cut]
        with pytest.raises(TokenFileError):
            parse(data)
        try:
            assert parse(data, allow_truncated=True).is_truncated and cut >= size
        except TokenFileError:
            assert cut < size


@pytest.mark.parametrize("golden", GOLDEN, ids=golden_files.NAMES)
def test_every_truncation_decodes_to_what_arrived(golden: golden_files.Golden) -> None:
    header = parse_header(golden.data)
    ends = [header.size + sum(header.lengths[: i + 1]) for i in range(len(header.lengths))]
    for cut in {*ends[:-1], *(end - 1 for end in ends), *(end + 1 for end in ends[:-1])}:
        whole = sum(end <= cut for end in ends)
        if whole == 0:
            with pytest.raises(TokenFileError, match="no whole segment"):
                unpack(golden.data[:cut], golden.resolver)
            continue
        found = unpack(golden.data[:cut], golden.resolver)
        assert found.is_truncated and found.parts == whole
        axis = {"groups": "groups", "none": "levels"}[golden.tokens.layout.levels[0].ordered]
        level = found.tokens.layout.levels[0]
        count = level.groups if axis == "groups" else len(found.tokens.levels)
        assert found.tokens == golden.tokens.truncate(**{axis: count})


@pytest.mark.parametrize("golden", GOLDEN, ids=golden_files.NAMES)
def test_every_flipped_bit_is_noticed(golden: golden_files.Golden) -> None:
    changed = bytearray(golden.data)
    for i in range(len(changed)):
        for bit in range(8):
            changed[i] ^= 1 << bit
            # strict parsing refuses all that this refuses
            with suppress(TokenFileError):
                file = parse(changed, allow_truncated=True)
                # only a length that grew: the file now ends before its single checksum can speak
                assert file.is_truncated and not file.is_verified
                del file
                with pytest.raises(TokenFileError):
                    parse(changed)
            changed[i] ^= 1 << bit


def mutants(count: int, seed: int) -> Iterator[tuple[bytes, bool]]:
    """Yield mutated golden files, and whether their checksums were made right again."""
    rng = random.Random(seed)
    originals = [golden.data for golden in GOLDEN]
    sizes = {data: parse_header(data).size for data in originals}
    for _ in range(count):
        original = rng.choice(originals)
        data = bytearray(original)
        size = sizes[original]
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            _mutate(data, size, rng)
        is_repaired = len(data) > size and rng.random() < 0.5
        if is_repaired:
            covered = data[: size - 4]
            if not data[5] & 2:
                covered += data[size:]
            data[size - 4 : size] = zlib.crc32(covered).to_bytes(4, "little")
        yield bytes(data), is_repaired


def _mutate(data: bytearray, size: int, rng: random.Random) -> None:
    # mostly in the header, where it hurts
    reach = min(size, len(data)) if rng.random() < 0.8 else len(data)
    at = rng.randrange(max(1, reach))
    kind = rng.randrange(7)
    if kind == 0 and data:
        data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
    elif kind == 1 and data:
        data[min(at, len(data) - 1)] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    elif kind == 2:
        data[at:at] = rng.randbytes(rng.randint(1, 6))
    elif kind == 3:
        del data[at : at + rng.randint(1, 6)]
    elif kind == 4:
        data[at:at] = data[at : at + rng.randint(1, 16)]
    elif kind == 5:
        data[at : at + 5] = b"\xff\xff\xff\xff\x0f"
    else:
        del data[rng.randrange(len(data) + 1) :]


def is_canonical(data: bytes, file: TokenFile) -> bool:
    """Whether writing what was read gives the same bytes, but for the minor version."""
    again = bytearray(write(file.header, file.segments, limits=Limits()))
    again[4] = data[4]
    size = file.header.size
    covered = again[: size - 4] + (b"" if file.header.has_segment_crcs else again[size:])
    again[size - 4 : size] = zlib.crc32(covered).to_bytes(4, "little")
    return bytes(again) == data


def check_mutants(count: int, seed: int) -> None:
    originals = {golden.data for golden in GOLDEN}
    refused = 0
    for data, is_repaired in mutants(count, seed):
        try:
            file = parse(data)
        except TokenFileError:
            refused += 1
            continue
        assert data in originals or (is_repaired and is_canonical(data, file)), data.hex()
    assert refused > 0.7 * count


def test_20_000_mutants_are_refused_or_canonical() -> None:
    check_mutants(20_000, seed=1)


@pytest.mark.slow
def test_100_000_mutants_take_less_than_a_minute() -> None:
    start = time.perf_counter()
    check_mutants(100_000, seed=2)
    assert time.perf_counter() - start <= 60


def test_decoding_mutants_raises_one_kind_of_error() -> None:
    limits = Limits(tokens=20_000)
    resolver = resolver_for([golden.space for golden in GOLDEN])
    decoded = 0
    for data, is_repaired in mutants(1500, seed=3):
        if is_repaired:
            with suppress(TokenFileError):
                unpack(data, resolver, limits=limits)
                decoded += 1
    assert decoded > 50


def peak_memory(data: bytes, *, allow_truncated: bool) -> int:
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    with suppress(TokenFileError):
        parse(data, allow_truncated=allow_truncated)
    return tracemalloc.get_traced_memory()[1] - before


def test_memory_is_bounded() -> None:
    files = [*MALFORMED.values(), *(g.data for g in GOLDEN), *(m for m, _ in mutants(1500, seed=4))]
    header = parse_header(GOLDEN[0].data)
    plain = replace(header, layout=None, digest=None, chunks=(), has_segment_crcs=False)
    files.append(write(plain, [bytes(3 * MEGABYTE)]))
    files.append(write(plain, [b""] * 4096))
    files.append(files[-1][: len(files[-1]) // 2])
    tracemalloc.start()
    try:
        for data in files:
            for allow_truncated in (False, True):
                peak = peak_memory(data, allow_truncated=allow_truncated)
                assert peak <= 4 * len(data) + MEGABYTE
    finally:
        tracemalloc.stop()
