"""Tokens of labelled pictures in memory, written to and read from a token shard.

A shard holds ``views`` records a picture, under keys ``CLASS/PICTURE/VIEW``: squares cut at random
places, each from its own stream of noise, so that a shard is the same whenever it is made. A writer
that was killed goes on where it stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tessella.codecs.shard_tokens import TokenShardReader, TokenShardWriter
from tessella.codecs.token_coding import PackOptions
from tessella.codecs.token_space import TokenSpace
from tessella.data.labelled import LabelledSet, ViewSettings, view
from tessella.errors import ConfigError, PictureError
from tessella.images import from_pixels
from tessella.tokenizers.base import Tokenizer
from tessella.tokens import TokenLayout, Tokens

_BATCH = 32
_log = logging.getLogger(__name__)


class TokenBatch(NamedTuple):
    """Tokens and their class labels ``(B,)``."""

    tokens: Tokens
    labels: Tensor


@dataclass(frozen=True)
class TokenSet:
    """Tokens of many pictures of one size.

    Args:
        flat: ``(N, num_values)`` int32, as :meth:`~tessella.tokens.Tokens.flatten` orders them.
        labels: ``(N,)`` int64.
        layout: of each picture.
    """

    flat: Tensor
    labels: Tensor
    layout: TokenLayout

    def __len__(self) -> int:
        return len(self.flat)

    def batch(self, indices: Tensor) -> TokenBatch:
        """Return some of them."""
        tokens = Tokens.unflatten(self.layout, self.flat[indices].long())
        return TokenBatch(tokens, self.labels[indices])


def write_token_shard(  # what a shard is made of
    path: Path,
    pictures: LabelledSet,
    tokenizer: Tokenizer,
    *,
    views: ViewSettings,
    count: int,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Tokenize labelled pictures into a shard, or finish one that was begun.

    Args:
        path: the shard.
        pictures: where they come from.
        tokenizer: makes the tokens.
        views: how squares are cut.
        count: squares a picture.
        seed: start of the streams of noise.
        on_progress: called with the number of finished records and of all.

    Raises:
        ConfigError: if an existing shard is of another tokenizer or size.
    """
    layout = tokenizer.layout(views.size, views.size)
    space = TokenSpace(tokenizer.space_id, tokenizer.layout, None)
    total = len(pictures) * count
    path.parent.mkdir(parents=True, exist_ok=True)
    with TokenShardWriter(path, layout, space, PackOptions(profile=0)) as writer:
        keys: list[str] = []
        squares: list[Tensor] = []

        def flush() -> None:
            if squares:
                tokens = tokenizer.encode(torch.cat(squares))
                for i, key in enumerate(keys):
                    writer.add(key, tokens[i].to("cpu"))
            keys.clear()
            squares.clear()
            if on_progress is not None:
                on_progress(len(writer), total)

        for place in range(len(pictures)):
            names = [f"{pictures.labels[place]}/{place}/{i}" for i in range(count)]
            missing = [(i, name) for i, name in enumerate(names) if name not in writer]
            if not missing:
                continue
            try:
                picture, _ = pictures[place]
            except PictureError as error:
                _log.warning("picture skipped: %s", error)
                continue
            for i, name in missing:
                rng = np.random.default_rng((seed, place, i))
                keys.append(name)
                squares.append(from_pixels(view(picture, views, rng).copy()))
            if len(squares) >= _BATCH:
                flush()
        flush()


def read_token_shard(path: Path, tokenizer: Tokenizer, size: int) -> TokenSet:
    """Read a shard of labelled tokens into memory.

    Raises:
        ConfigError: if it is of another tokenizer or size, or its keys hold no labels.
        TokenFileError: if it is damaged.
    """
    layout = tokenizer.layout(size, size)
    flat, labels = [], []
    with TokenShardReader(path) as reader:
        for key, tokens in reader:
            found = tokens.layout
            if not layout.tokenizer_id.startswith(found.tokenizer_id) or (
                found.levels != layout.levels
            ):
                raise ConfigError(
                    f"{path} holds tokens of space {found.tokenizer_id[:8]} with grids "
                    f"{[level.grid for level in found.levels]}; expected "
                    f"{layout.tokenizer_id[:8]} with {[level.grid for level in layout.levels]}: "
                    "tokenize the pictures again, into another file"
                )
            label = key.split("/")[0]
            if not label.isdigit():
                raise ConfigError(f"{path}: key {key!r} found; expected CLASS/PICTURE/VIEW")
            flat.append(tokens.flatten().int())
            labels.append(int(label))
    if not flat:
        raise ConfigError(f"{path} holds no pictures")
    return TokenSet(torch.cat(flat), torch.tensor(labels), layout)


__all__ = ["TokenBatch", "TokenSet", "read_token_shard", "write_token_shard"]
