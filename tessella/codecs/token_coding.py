"""From values to the bytes of segments and back: which profile, which parts, which coder.

Shared by single files (:mod:`tessella.codecs.token_codec`) and shards.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from tessella.codecs.chunks import KEPT, Chunks
from tessella.codecs.container import (
    PROFILE_ADAPTIVE,
    PROFILE_NETWORK,
    PROFILE_RAW,
    PROFILE_STATIC,
)
from tessella.codecs.container_errors import (
    ChecksumError,
    MalformedError,
    UnknownModelError,
)
from tessella.codecs.entropy.adaptive import AdaptiveCoder
from tessella.codecs.entropy.latent.coder import LatentCoder
from tessella.codecs.entropy.prior import Prior
from tessella.codecs.entropy.raw import RawCoder
from tessella.codecs.entropy.segments import SegmentCoder, run_values
from tessella.codecs.entropy.static import StaticCoder
from tessella.codecs.group_counts import Counts, write_counts
from tessella.codecs.layout_choice import choose_layout
from tessella.codecs.limits import DEFAULT_LIMITS, Limits
from tessella.codecs.stored_layout import Part, StoredLayout, split_parts
from tessella.codecs.token_levels import (
    DEFAULT_EXPONENT,
    Arrays,
    Levels,
    new_arrays,
    stored_levels,
    to_arrays,
)
from tessella.codecs.token_space import TokenSpace
from tessella.errors import ConfigError
from tessella.tokens import ABSENT, TokenLayout, Tokens

Split = Literal["auto", "parts", "single"]

_ADAPTIVE_FROM = 1000
_SMALLEST_SEGMENT_BITS = 2048
_UNDECODED = -(2**48)  # beyond every value, and unlike for the two bounds


@dataclass(frozen=True, slots=True)
class PackOptions:
    """How to write tokens.

    Args:
        profile: 0 raw, 1 static, 2 adaptive, 3 by a network; None picks 3 where the prior has one,
            2 where it pays, 1 with a prior, else 0.
        split: one segment a part ("parts"), one in all ("single"), or parts unless they are tiny or
            coded by a network.
        id_bytes: stored prefix of identities: 4, 8, 16 or 32 bytes.
        exponent: e of the quantisation ``round(x 2^e)`` of continuous levels; None takes what the
            tokenizer prefers, or 8 without one.
        has_digest: whether to store a CRC-32 of all tokens.
        chunks: optional chunks, name and bytes.
        limits: what a reader is expected to accept.
    """

    profile: int | None = None
    split: Split = "auto"
    id_bytes: int = 4
    exponent: int | None = None
    has_digest: bool = False
    chunks: Chunks = ()
    limits: Limits = DEFAULT_LIMITS


DEFAULT_OPTIONS = PackOptions()


@dataclass(frozen=True, slots=True)
class CodedTokens:
    """Tokens as segments.

    Args:
        levels: what the segments hold.
        layout: the layout to store; None if reader and model agree on it without.
        profile: entropy profile of the segments.
        segments: their bytes.
        digest: CRC-32 of all tokens in coding order, if asked for.
        chunks: those that the tokens need.
    """

    levels: Levels
    layout: StoredLayout | None
    profile: int
    segments: list[bytes]
    digest: int | None
    chunks: Chunks = ()

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(map(len, self.segments))


def join(parts: Sequence[Part]) -> Part:
    """Return one part that codes all the given ones together."""
    return Part(tuple(run for part in parts for run in part.runs), parts[-1].levels)


def encode_tokens(tokens: Tokens, space: TokenSpace | None, options: PackOptions) -> CodedTokens:
    """Encode one picture's tokens."""
    prior = space.prior if space else None
    profile = choose_profile(tokens.layout, prior, options.profile)
    coded = _encoded(tokens, space, profile, options)
    if options.profile is None and prior and tokens.layout.num_values < _ADAPTIVE_FROM:
        raw = _encoded(tokens, space, PROFILE_RAW, options)  # needs no prior_id
        if raw.size <= coded.size + options.id_bytes:
            return raw
    return coded


def _encoded(
    tokens: Tokens, space: TokenSpace | None, profile: int, options: PackOptions
) -> CodedTokens:
    prior = space.prior if space and profile != PROFILE_RAW else None
    exponent = options.exponent
    if exponent is None:
        exponent = space.exponent if space else DEFAULT_EXPONENT
    levels, arrays = to_arrays(tokens, exponent, prior)
    parts = split_parts(levels)
    if not _is_split(tokens, parts, options.split, profile):
        parts = [join(parts)]
    coder = _coder(profile, levels, arrays, prior, options.limits)
    return CodedTokens(
        levels,
        choose_layout(levels, len(parts), tokens.layout.image_size, space, prior),
        profile,
        [coder.encode(part) for part in parts],
        digest(parts, arrays) if options.has_digest else None,
        _count_chunk(tokens, levels),
    )


def _count_chunk(tokens: Tokens, levels: Levels) -> Chunks:
    """Return the chunk that says how many groups each position keeps, if not all keep all."""
    counts = tokens.group_counts()[0].cpu().numpy()
    if int(counts.min()) == levels[0].groups:
        return ()
    height, width = (1, *levels[0].grid)[-2:]
    return ((KEPT, write_counts(counts.reshape(height, width), levels[0].groups)),)


def choose_profile(layout: TokenLayout, prior: Prior | None, asked: int | None) -> int:
    """Return the entropy profile to write: the one asked for, or what pays for such tokens."""
    if asked not in (None, PROFILE_RAW, PROFILE_STATIC, PROFILE_ADAPTIVE, PROFILE_NETWORK):
        raise ConfigError(f"profile={asked} given; this version writes 0 to 3")
    if asked and prior is None:
        raise ConfigError(f"profile={asked} given without a prior; give one or use profile 0")
    if asked == PROFILE_NETWORK and prior and prior.latent_model is None:
        raise ConfigError("profile=3 given with a prior that has no network; use another profile")
    if asked is not None or prior is None:
        return asked or PROFILE_RAW
    if prior.latent_model is not None:
        return PROFILE_NETWORK
    has_model = prior.bit_model is not None and prior.bit_model.suits(stored_levels(layout))
    pays = has_model or layout.num_values >= _ADAPTIVE_FROM
    return PROFILE_ADAPTIVE if pays else PROFILE_STATIC


def _is_split(tokens: Tokens, parts: Sequence[Part], split: Split, profile: int) -> bool:
    if split == "auto":
        if profile == PROFILE_NETWORK:
            return False  # its tokens take a tenth of their raw bits and less
        return tokens.bits >= _SMALLEST_SEGMENT_BITS * len(parts)
    return split == "parts"


def _coder(
    profile: int, levels: Levels, arrays: Arrays, prior: Prior | None, limits: Limits
) -> SegmentCoder:
    if profile == PROFILE_RAW:
        return RawCoder(levels, arrays)
    if prior is None:
        raise UnknownModelError(f"entropy profile {profile} needs the prior of its model")
    if profile == PROFILE_NETWORK:
        if prior.latent_model is None:
            raise UnknownModelError("entropy profile 3 needs a prior with a network; this has none")
        return LatentCoder(levels, arrays, prior.latent_model)
    if profile == PROFILE_STATIC:
        return StaticCoder(levels, arrays, prior, limits)
    return AdaptiveCoder(levels, arrays, prior, limits)


def decode_segments(
    levels: Levels,
    parts: Sequence[Part],
    segments: Sequence[bytes | memoryview],
    profile: int,
    prior: Prior | None,
    limits: Limits,
    counts: Counts | None = None,
) -> Arrays:
    """Decode the first ``len(segments)`` parts into new arrays of ``levels``."""
    arrays = new_arrays(levels, counts)
    coder = _coder(profile, levels, arrays, prior, limits)
    for part, segment in zip(parts, segments, strict=False):
        coder.decode(part, segment)
    return arrays


def certain_parts(
    levels: Levels,
    coarse: Sequence[Part],
    fine: Sequence[Part],
    pieces: Sequence[bytes | memoryview],
    profile: int,
    prior: Prior | None,
    counts: Counts | None = None,
) -> tuple[Arrays, int]:
    """Decode also what no continuation of a cut segment can change.

    Args:
        levels: what the whole file holds.
        coarse: what each segment holds.
        fine: the units to recover, in the same order.
        pieces: the complete segments and the beginning of the next one.
        profile: entropy profile.
        prior: the prior, if the profile needs one.
        counts: how many groups each position keeps; None for all.

    Returns:
        The arrays, and how many leading units of ``fine`` are certain.
    """
    bounds = []
    for padding in (0x00, 0xFF):
        arrays = new_arrays(levels, counts)
        for array in arrays:
            array[array != ABSENT] = _UNDECODED - padding
        coder = _coder(profile, levels, arrays, prior, DEFAULT_LIMITS)
        for part, segment in zip(coarse, pieces[:-1], strict=False):
            coder.decode(part, segment)
        with suppress(MalformedError):  # padding may decode to an endless escape
            coder.decode(coarse[len(pieces) - 1], pieces[-1], padding)
        bounds.append(arrays)
    low, high = bounds
    for certain, part in enumerate(fine):
        if any((run_values(r, low) != run_values(r, high)).any() for r in part.runs):
            return low, certain
    return low, len(fine)


def digest(parts: Sequence[Part], arrays: Arrays) -> int:
    """Return the CRC-32 of all tokens as int32, least significant byte first, in coding order."""
    crc = 0
    for part in parts:
        for run in part.runs:
            crc = zlib.crc32(run_values(run, arrays).astype("<i4").tobytes(), crc)
    return crc


def check_digest(stored: int | None, parts: Sequence[Part], arrays: Arrays) -> None:
    """Compare a stored digest with the decoded tokens.

    Raises:
        TokenFileError: if they differ.
    """
    if stored is None:
        return
    computed = digest(parts, arrays)
    if computed != stored:
        raise ChecksumError(
            f"the decoded tokens have digest {computed:08x}, the file says {stored:08x}: it was "
            "written with another prior or on a machine that computes otherwise"
        )


__all__ = [
    "DEFAULT_OPTIONS",
    "CodedTokens",
    "PackOptions",
    "Split",
    "certain_parts",
    "check_digest",
    "choose_profile",
    "decode_segments",
    "digest",
    "encode_tokens",
    "join",
]
