"""What is in a token file, told without its model and without torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tessella.codecs.chunks import KEPT
from tessella.codecs.container import VERSION, TokenFileHeader, parse
from tessella.codecs.limits import DEFAULT_LIMITS, Limits
from tessella.codecs.stored_layout import Part, StoredLevel, split_parts
from tessella.hub import find

if TYPE_CHECKING:
    from tessella.codecs.group_counts import Counts

PROFILES = ("raw", "static", "adaptive", "exact context", "device-bound")
_COLOURS = ("sRGB", "grey")


@dataclass(frozen=True, slots=True)
class SegmentDescription:
    """One segment of a token file.

    Args:
        holds: which tokens it carries.
        size: its bytes.
        bpp: bits per pixel of the file up to and including it, header included.
        is_here: whether it is complete.
    """

    holds: str
    size: int
    bpp: float
    is_here: bool


@dataclass(frozen=True, slots=True)
class FileDescription:
    """A token file.

    Args:
        size: bytes of the file.
        header_size: bytes before the first segment.
        version: of the format, ``major.minor``.
        width: of the picture in pixels.
        height: of the picture in pixels.
        colour: colour space of the picture.
        bpp: bits of the file per pixel of the picture.
        space_id: stored part of the token space's identity, hexadecimal digits.
        model: name of its model here; empty if it is not known.
        profile: how its tokens are coded.
        prior_id: stored part of the prior's identity, hexadecimal digits.
        levels: grid, groups and order of each level; empty if only the model knows.
        tokens: number of tokens; None if only the model knows.
        raw_bits: bits of the tokens before entropy coding; None if only the model knows.
        segments: what the file carries, in order.
        chunks: name and bytes of optional chunks.
        is_truncated: whether the file ends early.
        is_verified: whether checksums cover all that is here.
        kept: how many groups positions of the whole file keep, where that differs; else empty.
    """

    size: int
    header_size: int
    version: str
    width: int
    height: int
    colour: str
    bpp: float
    space_id: str
    model: str
    profile: str
    prior_id: str
    levels: tuple[str, ...]
    tokens: int | None
    raw_bits: float | None
    segments: tuple[SegmentDescription, ...]
    chunks: tuple[tuple[str, int], ...]
    is_truncated: bool
    is_verified: bool
    kept: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def describe(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> FileDescription:
    """Describe a token file from its bytes, whole or cut.

    Raises:
        TokenFileError: saying what is wrong with it, and where.
    """
    file = parse(data, limits=limits, allow_truncated=True)
    header = file.header
    levels = header.layout.levels if header.layout else ()
    record = find(header.space_id, may_load=False) if any(header.space_id) else None
    pixels = header.width * header.height
    counts = _counts(header, levels)
    return FileDescription(
        size=len(data),
        header_size=header.size,
        version=f"{VERSION >> 4}.{data[4] & 15}",
        width=header.width,
        height=header.height,
        colour=_COLOURS[header.colour],
        bpp=8 * len(data) / pixels,
        space_id=header.space_id.hex(),
        model=record.name if record else "",
        profile=PROFILES[header.profile],
        prior_id=header.prior_id.hex(),
        levels=tuple(_level(level) for level in levels),
        tokens=_num_tokens(levels, counts),
        raw_bits=_raw_bits_of(levels, counts),
        segments=tuple(_segments(header, levels, len(file.segments))),
        chunks=tuple((name, len(content)) for name, content in header.chunks),
        is_truncated=file.is_truncated,
        is_verified=file.is_verified,
        kept=_kept(counts, dict(header.chunks).get(KEPT, b"")),
    )


def _counts(header: TokenFileHeader, levels: tuple[StoredLevel, ...]) -> Counts | None:
    data = dict(header.chunks).get(KEPT)
    if data is None or not levels:
        return None
    from tessella.codecs.group_counts import read_counts  # needs numpy

    return read_counts(data, levels[0])


def _num_tokens(levels: tuple[StoredLevel, ...], counts: Counts | None) -> int | None:
    if counts is not None:
        return int(counts.sum())
    return sum(level.positions * level.groups for level in levels) if levels else None


def _raw_bits_of(levels: tuple[StoredLevel, ...], counts: Counts | None) -> float | None:
    if counts is not None:
        widths = enumerate(map(math.log2, levels[0].vocab_sizes))
        return sum(width * int((counts > g).sum()) for g, width in widths)
    return sum(map(_raw_bits, levels)) if levels else None


def _kept(counts: Counts | None, data: bytes) -> str:
    if counts is None:
        return "unlike numbers of groups, known to the model only" if data else ""
    side = 1 << data[0]
    return (
        f"{counts.min()} to {counts.max()} groups, {counts.mean():.2f} on average, in tiles of "
        f"{side} x {side} positions"
    )


def _segments(
    header: TokenFileHeader, levels: tuple[StoredLevel, ...], complete: int
) -> Iterable[SegmentDescription]:
    parts = split_parts(levels) if levels else []
    total = header.size
    for i, size in enumerate(header.lengths):
        total += size
        holds = "all tokens"
        if len(header.lengths) > 1:
            holds = _part(parts[i], parts[i - 1] if i else None) if parts else f"part {i + 1}"
        bpp = 8 * total / (header.width * header.height)
        yield SegmentDescription(holds, size, bpp, i < complete)


def _part(part: Part, before: Part | None) -> str:
    if part.groups is not None:
        return f"group {part.groups}"
    if part.length is not None:
        start = before.length if before and before.length else 0
        return f"positions {start + 1}-{part.length}"
    first = before.levels + 1 if before else 1
    return f"level {part.levels}" if first == part.levels else f"levels {first}-{part.levels}"


def _level(level: StoredLevel) -> str:
    grid = " x ".join(map(str, level.grid))
    if level.channels:
        values = f"{level.channels} channels in steps of 2^{-level.exponent}"
    elif len(set(level.vocab_sizes)) == 1:
        values = f"{level.groups} group(s) of {level.vocab_sizes[0]}"
    else:
        values = f"groups of {', '.join(map(str, level.vocab_sizes))}"
    order = "" if level.ordered == "none" else f", ordered {level.ordered}"
    return f"grid {grid}, {values}{order}"


def _raw_bits(level: StoredLevel) -> float:
    if level.channels:
        return 32.0 * level.positions * level.channels
    return float(level.positions * sum(math.log2(size) for size in level.vocab_sizes))


__all__ = ["PROFILES", "FileDescription", "SegmentDescription", "describe"]
