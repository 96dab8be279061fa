"""Tokens in shards: many pictures of one token space, each by its key or number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tessella.codecs.closing import Closing
from tessella.codecs.container_errors import UnknownModelError
from tessella.codecs.layout_choice import choose_layout, find_levels, model_levels
from tessella.codecs.limits import DEFAULT_LIMITS, Limits
from tessella.codecs.shard import ShardReader, ShardWriter
from tessella.codecs.shard_format import ShardHeader, ShardRecord
from tessella.codecs.stored_layout import StoredLayout, split_parts
from tessella.codecs.token_codec import space_prefix
from tessella.codecs.token_coding import (
    DEFAULT_OPTIONS,
    PackOptions,
    Split,
    choose_profile,
    decode_segments,
    encode_tokens,
    join,
)
from tessella.codecs.token_levels import Levels, stored_levels, to_tokens, token_layout
from tessella.codecs.token_space import Resolver, TokenSpace
from tessella.errors import ConfigError, ShapeError
from tessella.tokens import TokenLayout, Tokens


class TokenShardWriter(Closing):
    """Appends the tokens of pictures to a shard.

    Args:
        path: the shard; an existing one is continued.
        layout: of most pictures: those of its size need not store theirs.
        space: the token space, for its prior.
        options: how to write; pictures have one segment each unless ``split`` is "parts".

    Raises:
        ConfigError: if an existing shard is of another token space, prior or default size.
    """

    def __init__(
        self,
        path: Path | str,
        layout: TokenLayout,
        space: TokenSpace | None = None,
        options: PackOptions = DEFAULT_OPTIONS,
    ) -> None:
        profile = choose_profile(layout, space.prior if space else None, options.profile)
        split: Split = "parts" if options.split == "parts" else "single"
        self._options = replace(options, profile=profile, split=split)
        self._space = space
        self._prior = space.prior if space and profile else None
        self._tokenizer_id = layout.tokenizer_id
        levels = stored_levels(layout)
        height, width = layout.image_size
        header = ShardHeader(
            space_prefix(layout.tokenizer_id, space, options.id_bytes),
            width,
            height,
            profile,
            self._prior.identity[: options.id_bytes] if self._prior else b"",
            layout=None if any(level.channels for level in levels) else StoredLayout(levels),
        )
        self._writer = ShardWriter(path, header, limits=options.limits)

    def __contains__(self, key: str) -> bool:
        return key in self._writer

    def __len__(self) -> int:
        return len(self._writer)

    def add(self, key: str, tokens: Tokens) -> int:
        """Append one picture's tokens.

        Returns:
            The number of bytes that were added.

        Raises:
            ConfigError: if the key is already there or the tokens are of another token space.
        """
        if tokens.layout.tokenizer_id != self._tokenizer_id:
            raise ConfigError(
                f"tokens of token space {tokens.layout.tokenizer_id[:16]!r} given; the shard holds "
                f"{self._tokenizer_id[:16]!r}"
            )
        coded = encode_tokens(tokens, self._space, self._options)
        if coded.chunks:
            raise ShapeError(
                "tokens that keep fewer groups at some positions given; a shard holds whole ones: "
                "write a token file, or truncate them"
            )
        height, width = tokens.layout.image_size
        layout = self._record_layout(coded.levels, (height, width))
        return self._writer.add(key, coded.segments, size=(width, height), layout=layout)

    def _record_layout(self, levels: Levels, size: tuple[int, int]) -> StoredLayout | None:
        """Return the layout to store, None if the reader expects just that one."""
        header = self._writer.header
        if size == (header.height, header.width) and header.layout:
            if levels == header.layout.levels:
                return None
        elif levels == model_levels(size, self._space, self._prior):
            return None
        chosen = choose_layout(levels, 1, size, self._space, self._prior)
        return chosen or StoredLayout(derived_parts=1)

    def flush(self) -> None:
        """Put all pictures so far on the disk."""
        self._writer.flush()

    def close(self) -> None:
        """Write the index and close the shard."""
        self._writer.close()


class TokenShardReader(Closing):
    """Reads the tokens of any picture of a shard.

    Args:
        path: the shard.
        resolver: finds the model; needed unless the tokens are raw and spell their layouts out.
        limits: what to accept.
        recover: read what a killed writer left.

    Raises:
        TokenFileError: if the shard is damaged or its model unknown.
    """

    def __init__(
        self,
        path: Path | str,
        resolver: Resolver | None = None,
        *,
        limits: Limits = DEFAULT_LIMITS,
        recover: bool = False,
    ) -> None:
        self._reader = ShardReader.open(path, limits=limits, recover=recover)
        self._limits = limits
        header = self._reader.header
        is_named = any(header.space_id)
        self._space = resolver(header.space_id, header.prior_id) if resolver and is_named else None
        if header.profile and self._space is None:
            raise UnknownModelError(
                f"{path} needs prior {header.prior_id.hex()} of token space "
                f"{header.space_id.hex()}; load the model that wrote it"
            )
        self._name = header.space_id.hex() if is_named else ""
        if self._space:
            self._name = self._space.space_id

    def close(self) -> None:
        """Unmap the file."""
        self._reader.close()

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, place: int | str) -> Tokens:
        """Return a picture's tokens by its number or key."""
        return self._tokens(self._reader.record(place))

    def __iter__(self) -> Iterator[tuple[str, Tokens]]:
        for record in self._reader:
            yield record.key, self._tokens(record)

    def keys(self) -> list[str]:
        """Return all keys in the order of writing."""
        return self._reader.keys()

    def _tokens(self, record: ShardRecord) -> Tokens:
        header = self._reader.header
        size = (record.height, record.width)
        levels = self._levels(record)
        parts = split_parts(levels)
        if len(record.lengths) == 1:
            parts = [join(parts)]
        prior = self._space.prior if self._space and header.profile else None
        segments = self._reader.segments(record)
        arrays = decode_segments(levels, parts, segments, header.profile, prior, self._limits)
        return to_tokens(arrays, levels, token_layout(levels, size, self._name))

    def _levels(self, record: ShardRecord) -> Levels:
        header = self._reader.header
        layout = record.layout or StoredLayout()
        is_default = (record.width, record.height) == (header.width, header.height)
        if record.layout is None and is_default and header.layout:
            layout = header.layout
        size = (record.height, record.width)
        return find_levels(
            layout, len(record.lengths), size, self._space, header.profile, self._limits
        )


__all__ = ["TokenShardReader", "TokenShardWriter"]
