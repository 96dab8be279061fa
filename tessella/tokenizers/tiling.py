"""Encoding and decoding by tiles: peak memory does not grow with the picture beyond the result.

A tokenizer that states its ``halo`` is tiled exactly: each tile is computed with that margin and
cropped, which gives what the whole picture gives, to float tolerance. One whose operations are
global (``halo`` is None) is approximated: tiles overlap by an eighth, tokens are taken from their
middles, and decoded tiles are blended linearly where they overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tessella.errors import ShapeError
from tessella.images import Box, Picture, Pixels, Tile, from_pixels, open_image, tiles, to_pixels
from tessella.tokenizers.base import Tokenizer
from tessella.tokens import LevelLayout, TokenLayout, Tokens

Progress = Callable[[int, int], None]

DEFAULT_TILE = 3136  # pixels; halos cost a twelfth of the work, a tile half a gigabyte
_OVERLAP = 8  # tiles of global tokenizers overlap by this part of their side


def encode_tiled(
    tokenizer: Tokenizer,
    picture: Picture | Pixels,
    *,
    tile: int = DEFAULT_TILE,
    on_progress: Progress | None = None,
) -> Tokens:
    """Encode a picture of any size by tiles, holding floats of one tile at a time.

    Args:
        tokenizer: its levels must be maps if the picture is larger than a tile.
        picture: a path, a PIL image, or uint8 ``(H, W, 3)``; use
            :func:`~tessella.images.open_image` first to override its size limit.
        tile: side of a tile in pixels, margins included; rounded up to the tokenizer's stride.
        on_progress: called with the number of finished tiles and of all tiles.

    Raises:
        PictureError: if the picture cannot be read.
        ShapeError: if the tokenizer's levels are sequences, or the tile is too small.
    """
    source = picture if isinstance(picture, np.ndarray) else open_image(picture)
    height, width = source.shape[:2] if isinstance(source, np.ndarray) else source.size[::-1]
    layout = tokenizer.layout(height, width)
    plan = _plan(tokenizer, height, width, tile)
    if len(plan) == 1:
        tokens = tokenizer.encode(from_pixels(_region(source, plan[0].outer)))
        _report(on_progress, 1, 1)
        return tokens
    strides = [_level_stride(level, tokenizer, height, width) for level in layout.levels]
    levels = [
        torch.empty(1, *level.grid, level.groups, dtype=_dtype(level), device=tokenizer.device)
        for level in layout.levels
    ]
    for i, (core, outer) in enumerate(plan):
        part = tokenizer.encode(from_pixels(_region(source, outer)))
        for level, values, stride in zip(levels, part.levels, strides, strict=True):
            here, there = core.grown(tokenizer.stride), outer.grown(tokenizer.stride)
            _crop(level, here.in_cells(stride)).copy_(
                _crop(values, here.inside(there).in_cells(stride))
            )
        _report(on_progress, i + 1, len(plan))
    return Tokens(levels, layout)


def decode_tiled(
    tokenizer: Tokenizer,
    tokens: Tokens,
    *,
    tile: int = DEFAULT_TILE,
    generator: torch.Generator | None = None,
    on_progress: Progress | None = None,
) -> Pixels:
    """Decode one picture of any size by tiles into uint8 ``(H, W, 3)``.

    Args:
        tokenizer: its levels must be maps if the picture is larger than a tile.
        tokens: whole or truncated tokens of one picture.
        tile: side of a tile in pixels, margins included; rounded up to the tokenizer's stride.
        generator: noise of generative decoders; unused by the others.
        on_progress: called with the number of finished tiles and of all tiles.

    Raises:
        ShapeError: if the tokens are not one picture of this tokenizer, its levels are sequences,
            or the tile is too small.
    """
    if tokens.batch_size != 1:
        raise ShapeError(f"tokens of {tokens.batch_size} pictures given; select one: tokens[0]")
    tokenizer.check_tokens(tokens)
    height, width = tokens.layout.image_size
    plan = _plan(tokenizer, height, width, tile)
    if len(plan) == 1:
        pixels = to_pixels(tokenizer.decode(tokens, generator=generator))
        _report(on_progress, 1, 1)
        return pixels
    strides = [_level_stride(level, tokenizer, height, width) for level in tokens.layout.levels]
    canvas = np.zeros((height, width, 3), np.uint8)
    blender = _Blender(canvas)
    for i, (core, outer) in enumerate(plan):
        part = to_pixels(
            tokenizer.decode(_select(tokens, outer, strides, tokenizer.stride), generator=generator)
        )
        if tokenizer.halo is None:
            blender.add(part, outer)
        else:
            inner = core.inside(outer)
            canvas[core.top : core.bottom, core.left : core.right] = part[
                inner.top : inner.bottom, inner.left : inner.right
            ]
        _report(on_progress, i + 1, len(plan))
    return canvas


def _plan(tokenizer: Tokenizer, height: int, width: int, tile: int) -> list[Tile]:
    stride = tokenizer.stride
    if tokenizer.tiles_itself:
        tile = max(tile, height, width)
    tile = -(-tile // stride) * stride
    halo = tokenizer.halo
    if halo is None:
        halo = -(-tile // (2 * _OVERLAP * stride)) * stride
    return list(tiles(height, width, tile=tile, halo=halo, stride=stride))


def _region(source: Image.Image | Pixels, box: Box) -> Pixels:
    if isinstance(source, np.ndarray):
        return source[box.top : box.bottom, box.left : box.right]
    return np.array(source.crop((box.left, box.top, box.right, box.bottom)))


def _level_stride(level: LevelLayout, tokenizer: Tokenizer, height: int, width: int) -> int:
    """Return the pixels of a cell of a level's map; it must divide the tokenizer's stride."""
    if len(level.grid) == 2:
        padded = [-(-side // tokenizer.stride) * tokenizer.stride for side in (height, width)]
        stride = padded[0] // level.grid[0]
        divides = stride > 0 and tokenizer.stride % stride == 0
        if divides and level.grid == (padded[0] // stride, padded[1] // stride):
            return stride
    raise ShapeError(
        f"a picture of {width}x{height} pixels given to a tokenizer with a level of grid "
        f"{level.grid}; tiles need maps of one cell every {tokenizer.stride} pixels: use a larger "
        "tile, or a smaller picture"
    )


def _dtype(level: LevelLayout) -> torch.dtype:
    return torch.float32 if level.is_continuous else torch.int64


def _crop(values: Tensor, cells: Box) -> Tensor:
    return values[:, cells.top : cells.bottom, cells.left : cells.right]


def _select(tokens: Tokens, outer: Box, strides: list[int], padding: int) -> Tokens:
    """Return the tokens of an outer box as those of a picture of its own."""
    levels = [
        _crop(values, outer.grown(padding).in_cells(stride))
        for values, stride in zip(tokens.levels, strides, strict=True)
    ]
    layouts = tuple(
        replace(layout, grid=tuple(level.shape[1:3]))
        for layout, level in zip(tokens.layout.levels, levels, strict=True)
    )
    size = (outer.height, outer.width)
    return Tokens(levels, TokenLayout(layouts, size, tokens.layout.tokenizer_id))


class _Blender:
    """Writes decoded tiles row by row, fading each in over what is left and above of it."""

    def __init__(self, canvas: Pixels) -> None:
        self._canvas = canvas
        self._above = self._row_bottom = self._right = 0  # how far earlier tiles have written

    def add(self, part: Pixels, outer: Box) -> None:
        """Write a tile over its outer box."""
        if outer.left == 0:
            self._above, self._row_bottom, self._right = self._row_bottom, outer.bottom, 0
        down = _ramp(outer.height, self._above - outer.top)
        across = _ramp(outer.width, self._right - outer.left)
        self._right = outer.right
        weight = (down[:, None] * across)[..., None]
        target = self._canvas[outer.top : outer.bottom, outer.left : outer.right]
        mixed = target + weight * (part.astype(np.float32) - target)
        target[:] = np.rint(mixed).astype(np.uint8)


def _ramp(length: int, overlap: int) -> NDArray[np.float32]:
    """Return weights ``(length,)`` that rise linearly over the overlap and are 1 after it."""
    weights = np.ones(length, np.float32)
    if overlap > 0:
        weights[:overlap] = np.arange(1, overlap + 1, dtype=np.float32) / (overlap + 1)
    return weights


def _report(on_progress: Progress | None, done: int, total: int) -> None:
    if on_progress is not None:
        on_progress(done, total)


__all__ = ["DEFAULT_TILE", "decode_tiled", "encode_tiled"]
