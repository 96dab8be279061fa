"""Tokens to the bytes of a ``.tsl`` file and back.

::

    Tokens --levels, values--> parts --entropy profile--> segments --container--> bytes

A file whose end is missing gives the tokens of its whole segments, as ``Tokens.truncate`` would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tessella.codecs.byte_reader import Bytes
from tessella.codecs.chunks import KEPT
from tessella.codecs.container import PROFILE_NETWORK, TokenFile, TokenFileHeader, parse
from tessella.codecs.container_errors import (
    MalformedError,
    TruncatedError,
    UnknownModelError,
    UnsupportedVersionError,
)
from tessella.codecs.container_writer import write
from tessella.codecs.group_counts import Counts, read_counts
from tessella.codecs.layout_choice import find_levels
from tessella.codecs.limits import DEFAULT_LIMITS, Limits
from tessella.codecs.stored_layout import Part, Run, split_parts
from tessella.codecs.token_coding import (
    DEFAULT_OPTIONS,
    PackOptions,
    certain_parts,
    check_digest,
    decode_segments,
    encode_tokens,
    join,
)
from tessella.codecs.token_levels import Levels, to_tokens, token_layout, truncate_levels
from tessella.codecs.token_space import Resolver, TokenSpace
from tessella.errors import ConfigError
from tessella.tokens import Tokens


@dataclass(frozen=True, slots=True)
class UnpackedTokens:
    """Tokens read from a file, and how complete they are.

    Args:
        tokens: a batch of one.
        header: what the file says about itself.
        is_truncated: whether the file ends early; the tokens are then what arrived.
        is_verified: whether checksums cover these tokens; only False after recovery.
        parts: parts (groups, levels or runs of positions) in ``tokens``.
        all_parts: parts that the whole file has.
    """

    tokens: Tokens
    header: TokenFileHeader
    is_truncated: bool
    is_verified: bool
    parts: int
    all_parts: int


def pack(
    tokens: Tokens, space: TokenSpace | None = None, options: PackOptions = DEFAULT_OPTIONS
) -> bytes:
    """Return the token file of one picture.

    Continuous levels are rounded to multiples of ``2^-e``, see :class:`PackOptions`; all else is
    exact.

    Args:
        tokens: a batch of one.
        space: the token space, for its prior and so that small files may omit their layout.
        options: how to write.

    Raises:
        ShapeError: if the tokens are not one picture within its alphabets.
        TokenFileError: if the file would exceed the limits.
    """
    space_id = space_prefix(tokens.layout.tokenizer_id, space, options.id_bytes)
    coded = encode_tokens(tokens, space, options)
    prior = space.prior if space and coded.profile else None
    height, width = tokens.layout.image_size
    header = TokenFileHeader(
        space_id,
        width,
        height,
        coded.profile,
        prior.identity[: options.id_bytes] if prior else b"",
        layout=coded.layout,
        digest=coded.digest,
        chunks=(*coded.chunks, *options.chunks),
    )
    return write(header, coded.segments, limits=options.limits)


def space_prefix(tokenizer_id: str, space: TokenSpace | None, id_bytes: int) -> bytes:
    """Return the stored prefix of a token space's identity; zeros for an unnamed one."""
    if space and tokenizer_id and tokenizer_id != space.space_id:
        raise ConfigError(
            f"tokens of token space {tokenizer_id[:16]} given with the prior of "
            f"{space.space_id[:16]}; use the prior of their tokenizer"
        )
    name = tokenizer_id or (space.space_id if space else "")
    if not name:
        return bytes(id_bytes)
    try:
        identity = bytes.fromhex(name)
    except ValueError as error:
        raise ConfigError(f"tokenizer_id {name!r} given; expected hexadecimal digits") from error
    if len(identity) < id_bytes:
        raise ConfigError(f"tokenizer_id {name!r} given; expected at least {2 * id_bytes} digits")
    return identity[:id_bytes]


def unpack(
    data: Bytes,
    resolver: Resolver | None = None,
    *,
    limits: Limits = DEFAULT_LIMITS,
    allow_truncated: bool = True,
    recover: bool = False,
) -> UnpackedTokens:
    """Read the tokens of a token file.

    Args:
        data: the whole file, or its beginning.
        resolver: finds the model; needed unless the file is raw and spells its layout out.
        limits: what to accept.
        allow_truncated: return the whole segments of a file that ends early.
        recover: of such a file, return also what the cut segment settles for certain. Nothing
            verifies these tokens.

    Raises:
        TokenFileError: saying what is wrong and where; also if nothing usable arrived.
    """
    file = parse(data, limits=limits, allow_truncated=allow_truncated or recover)
    header = file.header
    if header.is_centred:
        raise UnsupportedVersionError("flag bit 6 at byte 5: centred padding is not supported")
    if header.profile > PROFILE_NETWORK:
        raise UnsupportedVersionError(
            f"entropy profile {header.profile} needs a generator; this version decodes 0 to 3"
        )
    is_named = any(header.space_id)
    space = resolver(header.space_id, header.prior_id) if resolver and is_named else None
    if header.profile and space is None:
        raise UnknownModelError(
            f"entropy profile {header.profile} needs prior {header.prior_id.hex()} of token space "
            f"{header.space_id.hex()}; load the model that wrote the file"
        )
    size = (header.height, header.width)
    levels = find_levels(header.layout, len(header.lengths), size, space, header.profile, limits)
    parts = split_parts(levels)
    if len(header.lengths) == 1:
        parts = [join(parts)]
    name = space.space_id if space else header.space_id.hex() if is_named else ""
    counts = kept_groups(header, levels)
    if file.is_truncated and recover:
        return _recovered(file, levels, parts, space, name)
    count = len(file.segments)
    if count == 0:
        raise TruncatedError(
            f"the file ends at byte {len(data)}, inside its first segment of {header.lengths[0]} "
            f"bytes from byte {header.size}: no whole segment arrived"
        )
    prior = space.prior if space else None
    kept = levels
    if file.is_truncated:
        kept = truncate_levels(levels, parts[count - 1])
    arrays = decode_segments(kept, parts, file.segments, header.profile, prior, limits, counts)
    if not file.is_truncated:
        check_digest(header.digest, parts, arrays)
    layout = token_layout(kept, size, name, is_ragged=counts is not None)
    tokens = to_tokens(arrays, kept, layout)
    return UnpackedTokens(tokens, header, file.is_truncated, True, count, len(parts))


def kept_groups(header: TokenFileHeader, levels: Levels) -> Counts | None:
    """Return how many groups each position of a whole file keeps; None for all.

    Raises:
        TokenFileError: if what the file says about it is damaged or does not fit its layout.
    """
    data = dict(header.chunks).get(KEPT)
    if data is None:
        return None
    if len(levels) > 1:
        raise MalformedError(f"chunk kept in a file of {len(levels)} levels; expected one level")
    return read_counts(data, levels[0])


def _recovered(
    file: TokenFile, levels: Levels, coarse: list[Part], space: TokenSpace | None, name: str
) -> UnpackedTokens:
    header = file.header
    counts = kept_groups(header, levels)
    fine = _fine_parts(levels)
    arrays, certain = certain_parts(
        levels,
        coarse,
        fine,
        [*file.segments, file.partial],
        header.profile,
        space.prior if space else None,
        counts,
    )
    if certain == 0:
        raise TruncatedError(
            f"the file ends {len(file.partial)} bytes into its first segment: too early for a part"
        )
    kept = truncate_levels(levels, fine[certain - 1])
    size = (header.height, header.width)
    cut = [
        array[: level.positions, : level.groups].copy()
        for array, level in zip(arrays, kept, strict=False)
    ]
    tokens = to_tokens(cut, kept, token_layout(kept, size, name, is_ragged=counts is not None))
    is_verified = file.is_verified and not file.partial
    return UnpackedTokens(tokens, header, True, is_verified, certain, len(fine))


def _fine_parts(levels: Levels) -> Sequence[Part]:
    if len(levels) == 1 and levels[0].ordered == "length" and not levels[0].channels:
        return [Part((Run(0, None, i, i + 1),), 1, length=i + 1) for i in range(levels[0].grid[0])]
    return split_parts(levels)


__all__ = ["UnpackedTokens", "kept_groups", "pack", "space_prefix", "unpack"]
