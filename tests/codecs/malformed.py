"""Token files that are wrong in one named place, assembled byte by byte without the writer."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

Fields = dict[str, bytes]

_ORDER = (
    *("magic", "version", "flags", "space_id", "width", "height", "colour", "profile"),
    *("prior_id", "layout", "segments", "lengths", "crcs", "digest", "extras", "checksum"),
    *("payload", "tail"),
)
# without these the bytes behind them happen to make another good file
_MAY_SHIFT = ("payload", "space_id", "prior_id", "digest", "colour", "profile")


def number(value: int) -> bytes:
    """LEB128, of any size."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def assemble(fields: Mapping[str, bytes]) -> bytes:
    """Join fields; checksums that are not given are those that a parser expects."""
    found = dict(fields)
    payload = found["payload"]
    if "checksum" not in found:
        head = b"".join(found.get(name, b"") for name in _ORDER[:-3])
        covered = head if found["flags"][:1] and found["flags"][0] & 2 else head + payload
        found["checksum"] = zlib.crc32(covered).to_bytes(4, "little")
    return b"".join(found.get(name, b"") for name in _ORDER)


def crcs(*segments: bytes) -> bytes:
    return b"".join(zlib.crc32(segment).to_bytes(4, "little") for segment in segments)


def one_segment() -> Fields:
    """A raw 2 x 3 grid of 256, with everything that is optional."""
    return {
        "magic": b"\x8eTOK",
        "version": b"\x10",
        "flags": bytes([0x01 | 0x04 | 0x08 | 0x20]),
        "space_id": b"\1\2\3\4",
        "width": number(24),
        "height": number(16),
        "colour": b"\0",
        "profile": b"\0",
        "prior_id": b"",
        "layout": b"\0" + number(2) + number(3) + number(2) + number(16) + number(0),
        "segments": number(1),
        "lengths": number(6),
        "crcs": b"",
        "digest": b"\0\0\0\0",
        "extras": number(9) + b"CAPT" + number(4) + b"mosa",
        "payload": b"tokens",
    }


def three_segments() -> Fields:
    """Three ordered groups under a prior, a segment each."""
    return {
        "magic": b"\x8eTOK",
        "version": b"\x10",
        "flags": bytes([0x02 | 0x20]),
        "space_id": b"spaceid8",
        "width": number(240),
        "height": number(160),
        "colour": b"\1",
        "profile": b"\1",
        "prior_id": b"priorid8",
        "layout": b"\0" + number(20) + number(30) + number(6) + number(16) + number(1),
        "segments": number(3),
        "lengths": number(3) + number(0) + number(2),
        "crcs": crcs(b"abc", b"", b"de"),
        "digest": b"",
        "extras": b"",
        "payload": b"abcde",
    }


def malformed_files() -> Iterator[tuple[str, bytes]]:
    """Yield names and files; each must be refused."""
    for make in (one_segment, three_segments):
        base = make.__name__
        for name, changes in _changes(make()):
            yield f"{base}: {name}", assemble({**make(), **changes})
        for name, data in _damaged(assemble(make()), make()):
            yield f"{base}: {name}", data


BAD_NUMBERS = {
    "not minimal": b"\x81\x00",
    "zero in two bytes": b"\x80\x00",
    "2^32": number(2**32),
    "2^35 - 1": number(2**35 - 1),
    "six bytes": b"\x80\x80\x80\x80\x80\x01",
    "endless": b"\xff" * 40,
}


def _changes(fields: Fields) -> Iterator[tuple[str, Fields]]:
    yield from _numbers(fields)
    yield from _bytes(fields)
    yield from _layouts()
    if fields["extras"]:
        yield from _extras()


def _numbers(fields: Fields) -> Iterator[tuple[str, Fields]]:
    for field in ("width", "height", "segments", "lengths"):
        rest = fields[field][1:] if field == "lengths" else b""
        for name, data in BAD_NUMBERS.items():
            yield f"{field} {name}", {field: data + rest}
    for field in ("width", "height"):
        for value in (0, 65536, 2**24, 2**32 - 1):
            yield f"{field} {value}", {field: number(value)}
    yield "pixels over the limit", {"width": number(65535), "height": number(2049)}
    yield "both sides over the limit", {"width": number(65536), "height": number(65536)}
    for value in (0, 2, 4, 4096, 4097, 2**32 - 1):
        yield f"{value} segments", {"segments": number(value)}
        many = min(value, 5000)
        lengths = b"\0" * many
        yield (
            f"{value} empty segments",
            {
                "segments": number(value),
                "lengths": lengths,
                "payload": b"",
                "crcs": crcs(*[b""] * many) if fields["flags"][0] & 2 else b"",
            },
        )
    for value in (0, 2**31, 2**32 - 1):
        yield f"first length {value}", {"lengths": number(value) + fields["lengths"][1:]}


def _bytes(fields: Fields) -> Iterator[tuple[str, Fields]]:
    for value in range(16):
        if value != 1:
            yield f"major version {value}", {"version": bytes([value << 4])}
    for value in (2, 3, 127, 128, 255):
        yield f"colour {value}", {"colour": bytes([value])}
    for value in (4, 5, 6, 127, 128, 255):
        yield f"profile {value}", {"profile": bytes([value])}
    for bit in (1, 2, 3, 4, 5, 7):
        yield f"flag bit {bit} flipped", {"flags": bytes([fields["flags"][0] ^ 1 << bit])}
    for name in fields:
        if fields[name] and name not in _MAY_SHIFT:
            yield f"{name} missing", {name: b""}


def _layouts() -> Iterator[tuple[str, Fields]]:
    grid = [number(2), number(3), number(2), number(16), number(0)]
    fields = ("grid height", "grid width", "groups", "alphabet", "order")
    for i, field in enumerate(fields):
        for name, data in BAD_NUMBERS.items():
            yield (
                f"layout {field} {name}",
                {"layout": b"\0" + b"".join([*grid[:i], data, *grid[i + 1 :]])},
            )
        for value in (0, 1, 3, 50, 514, 2**25, 2**32 - 1):
            data = b"\0" + b"".join([*grid[:i], number(value), *grid[i + 1 :]])
            if not _is_good(field, value):
                yield f"layout {field} {value}", {"layout": data}
    for kind in range(6, 65):
        yield f"layout kind {kind}", {"layout": bytes([kind]) + b"".join(grid)}
    yield (
        "layout of a single scale",
        {"layout": b"\1" + number(1) + number(2) + number(16) + b"\0\2\3"},
    )
    yield "layout of no scales", {"layout": b"\1" + number(0) + number(2) + number(16) + b"\0"}
    yield (
        "layout of 65 scales",
        {"layout": b"\1" + number(65) + number(2) + number(16) + b"\0" + b"\2\3" * 65},
    )
    yield (
        "layout of 2^32 - 1 scales",
        {"layout": b"\1" + number(2**32 - 1) + number(2) + number(16) + b"\0"},
    )
    yield (
        "layout of a sequence of 0",
        {"layout": b"\2" + number(0) + number(2) + number(16) + b"\0"},
    )
    yield (
        "layout of 2^25 tokens",
        {"layout": b"\2" + number(2**25) + number(2) + number(16) + b"\0"},
    )
    yield (
        "layout of 2^62 tokens",
        {"layout": b"\0" + number(2**31) * 2 + number(2) + number(16) + b"\0"},
    )
    yield (
        "alike scales as unlike levels",
        {"layout": b"\3\2" + (b"\2\3" + number(2) + number(16) + b"\0") * 2},
    )
    yield "alike alphabets as unlike", {"layout": b"\0\2\3" + number(5) + number(16) * 2 + b"\0"}
    yield (
        "power of two as another number",
        {"layout": b"\0\2\3" + number(2) + number(2 * 256 + 1) + b"\0"},
    )
    for channels in (0, 4097, 2**32 - 1):
        yield (
            f"latent of {channels} channels",
            {"layout": b"\4\2\3" + number(channels) + b"\x10\x08\0"},
        )
    yield "latent with exponent 129", {"layout": b"\4\2\3\4" + number(129) + b"\x08\0"}
    yield "latent with range 17", {"layout": b"\4\2\3\4\x10\x11\0"}
    yield "derived latent with range 17", {"layout": b"\5\x10\x11"}
    yield "map ordered by length", {"layout": b"\0\2\3" + number(2) + number(16) + b"\2"}
    yield "sequence of order 3", {"layout": b"\2\6" + number(2) + number(16) + b"\3"}


def _is_good(field: str, value: int) -> bool:
    """Whether a value of the one-segment file's layout is one that a writer may store."""
    if field in ("grid height", "grid width"):
        return 1 <= value < 2**20
    if field == "groups":
        return value == 50  # 25 groups
    return field == "order" and value in (0, 1)


def _extras() -> Iterator[tuple[str, Fields]]:
    for name, data in BAD_NUMBERS.items():
        yield f"extras size {name}", {"extras": data + b"CAPT" + number(4) + b"mosa"}
        yield (
            f"chunk length {name}",
            {"extras": number(4 + len(data) + 4) + b"CAPT" + data + b"mosa"},
        )
    chunks = {
        "empty": b"",
        "a name cut": b"CAP",
        "a length missing": b"CAPT",
        "content cut": b"CAPT" + number(9) + b"mosaic",
        "a name of spaces": b"    " + number(0),
        "a name of zeros": b"\0\0\0\0" + number(0),
        "a path": b"../x" + number(0),
        "a mandatory chunk": b"cAPT" + number(0),
        "a digit first": b"1APT" + number(0),
        "a name that is not ASCII": "ÄB".encode() + b"C" + number(0),
        "no numbers of groups": b"kept" + number(0),
        "tiles of 256 positions": b"kept" + number(2) + b"\x08\0",
        "twice the same": (b"CAPT" + number(1) + b"a") * 2,
        "a caption that is not UTF-8": b"CAPT" + number(1) + b"\xff",
        "a seed of 3 bytes": b"SEED" + number(3) + b"abc",
        "a seed of 5 bytes": b"SEED" + number(5) + b"abcde",
        "JSON cut": b"META" + number(1) + b"{",
        "JSON nested": b"META" + number(40) + b"[" * 20 + b"]" * 20,
        "JSON not UTF-8": b"META" + number(3) + b'"\xff"',
        "an environment that is no JSON": b"ENVR" + number(4) + b"torch"[:4],
    }
    for name, body in chunks.items():
        yield f"extras with {name}", {"extras": number(len(body)) + body}
    yield "extras of 2^20 + 1 bytes", {"extras": number(2**20 + 1) + b"ABCD"}
    big = b"ABCD" + number(2**20) + bytes(2**20)
    yield "extras really of more than 1 MiB", {"extras": number(len(big)) + big}
    yield "extras of 2^32 - 1 bytes", {"extras": number(2**32 - 1) + b"ABCD"}


def _damaged(data: bytes, fields: Fields) -> Iterator[tuple[str, bytes]]:
    yield "nothing", b""
    for i in range(4):
        yield f"magic byte {i} changed", data[:i] + bytes([data[i] ^ 0x80]) + data[i + 1 :]
    for name, start in (
        ("PNG", b"\x89PNG\r\n\x1a\n"),
        ("JPEG", b"\xff\xd8\xff\xe0"),
        ("a shard", b"\x8eTSH"),
        ("text", b"TOK:"),
        ("zeros", bytes(8)),
    ):
        yield f"the start of {name}", start + data[len(start) :]
    yield "read as text", data.decode("latin-1").encode("utf-8")
    yield "with seven bits", bytes(byte & 127 for byte in data)
    yield "twice", data + data
    yield "a zero byte behind", data + b"\0"
    yield "a line end behind", data + b"\r\n"
    yield "a byte before", b"\0" + data
    yield "reversed", data[::-1]
    yield "the payload missing", assemble({**fields, "tail": b""})[: -len(fields["payload"])]
    for name, checksum in (
        ("zero", bytes(4)),
        ("ones", b"\xff" * 4),
        ("of nothing", zlib.crc32(b"").to_bytes(4, "little")),
        ("big-endian", zlib.crc32(data[:-10]).to_bytes(4, "big")),
    ):
        yield f"checksum {name}", assemble({**fields, "checksum": checksum})
    for i in range(len(fields["payload"])):
        payload = bytearray(fields["payload"])
        payload[i] ^= 1
        done = data[: -len(payload)] + bytes(payload)
        yield f"payload byte {i} changed", done
