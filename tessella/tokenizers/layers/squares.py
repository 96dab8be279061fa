"""Pictures of any size for networks that know one size: resized, or cut into squares.

::

    resize: images (B, 3, H, W) --bicubic--> (B, 3, S, S)        one square a picture
    tile:   images (B, 3, r S, c S) --cut--> (B r c, 3, S, S)    r c squares a picture

The sequences of a picture's squares become one sequence in which the first tokens of all squares,
row by row, come first: its prefixes hold prefixes of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tessella.errors import ShapeError

OtherSizes = Literal["resize", "tile"]


@dataclass(frozen=True, slots=True)
class Squares:
    """How pictures become squares of one size, and their sequences one.

    Args:
        side: ``S`` in pixels.
        mode: ``resize`` (bicubic with antialiasing, whatever the aspect) or ``tile``.
    """

    side: int
    mode: OtherSizes

    def count(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of squares of a picture."""
        if self.mode == "resize":
            return 1, 1
        return -(-height // self.side), -(-width // self.side)

    def cut(self, images: Tensor) -> Tensor:
        """Return the squares ``(B r c, 3, S, S)`` of images in [-1, 1].

        Args:
            images: ``(B, 3, H, W)``; tiled ones have sides that are multiples of ``S``.
        """
        if self.mode == "resize":
            resized = _resized(images, self.side, self.side)
            # bicubic overshoots at edges
            return images if resized is images else resized.clamp(-1, 1)
        rows, columns = self.count(*images.shape[-2:])
        squares = images.reshape(len(images), -1, rows, self.side, columns, self.side)
        return squares.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)

    def join(self, squares: Tensor, height: int, width: int) -> Tensor:
        """Return pictures ``(B, 3, H, W)``; tiled ones are as large as their squares.

        Args:
            squares: ``(B r c, 3, s, s)``, resized to ``S`` where they are of another size.
            height: ``H``.
            width: ``W``.
        """
        if self.mode == "resize":
            return _resized(squares, height, width)
        squares = _resized(squares, self.side, self.side)
        rows, columns = self.count(height, width)
        grid = torch.unflatten(squares, 0, (-1, rows, columns)).permute(0, 3, 1, 4, 2, 5)
        return grid.reshape(len(grid), -1, rows * self.side, columns * self.side)

    def to_sequences(self, values: Tensor, batch: int) -> Tensor:
        """Join the sequences ``(B r c, n, G)`` of squares to one a picture, ``(B, n r c, G)``."""
        return torch.unflatten(values, 0, (batch, -1)).transpose(1, 2).flatten(1, 2)

    def from_sequences(self, values: Tensor, height: int, width: int) -> Tensor:
        """Split sequences ``(B, L, G)`` into those of squares, without tokens that not all have.

        Raises:
            ShapeError: if there is not one token a square.
        """
        rows, columns = self.count(height, width)
        squares, length = rows * columns, values.shape[1]
        if length < squares:
            raise ShapeError(
                f"{length} tokens given for a picture of {squares} squares; expected at least one "
                "token a square"
            )
        whole = values[:, : length // squares * squares]
        return torch.unflatten(whole, 1, (-1, squares)).transpose(1, 2).flatten(0, 1)


def _resized(images: Tensor, height: int, width: int) -> Tensor:
    """Resize images, in float32; those of that size are returned as they are."""
    if tuple(images.shape[-2:]) == (height, width):
        return images
    resized = F.interpolate(
        images.float(), (height, width), mode="bicubic", align_corners=False, antialias=True
    )
    return resized.to(images.dtype)


__all__ = ["OtherSizes", "Squares"]
