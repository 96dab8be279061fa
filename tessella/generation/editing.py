"""Known tokens: generating the rest of a picture.

The first scales of a real picture can be given, and the generator writes the finer ones. Or places
can be kept: at every scale the tokens outside a mask are those of the picture, and the ones inside
are drawn (in- and out-painting and class-conditional editing without training, arXiv 2404.02905).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from tessella.errors import ShapeError
from tessella.images import Picture, from_pixels, open_image
from tessella.tokenizers.next_scale import NextScaleTokenizer
from tessella.tokens import Tokens

Grid = tuple[int, int]
_HALF = 0.5
_WHITE = 256


@dataclass(frozen=True, eq=False)
class Known:
    """Tokens that are not drawn.

    Args:
        tokens: of the picture(s), ``B`` of them or one for all.
        scales: the first so many scales are taken whole.
        keep: bool ``(B, H, W)`` or ``(1, H, W)`` of any resolution: True where the picture stays.
            A token stays if at least half of its area does.
    """

    tokens: Tokens
    scales: int = 0
    keep: Tensor | None = None

    def __post_init__(self) -> None:
        keep = self.keep
        if keep is not None and (keep.ndim != 3 or keep.dtype != torch.bool):
            raise ShapeError(
                f"keep of shape {tuple(keep.shape)} and type {keep.dtype} given; expected bool "
                "(B, H, W)"
            )


class KnownScales:
    """The known tokens of one run.

    Args:
        known: what is given.
        tokenizer: whose tokens they are.
        grids: of all scales that the generator can write.
        batch: pictures of the run.

    Raises:
        ShapeError: if they do not fit, saying what differs.
    """

    def __init__(
        self, known: Known, tokenizer: NextScaleTokenizer, grids: Sequence[Grid], batch: int
    ) -> None:
        tokenizer.check_tokens(known.tokens)
        given = tuple(level.grid for level in known.tokens.layout.levels)
        needed = len(grids) if known.keep is not None else known.scales
        if not 0 <= known.scales <= len(grids):
            raise ShapeError(f"scales={known.scales} given; expected 0 to {len(grids)}")
        if given[:needed] != tuple(grids[:needed]):
            raise ShapeError(
                f"known tokens with grids {given} given; expected {tuple(grids[:needed])}: crop "
                "the picture to the size that the generator writes"
            )
        sizes = {"tokens": known.tokens.batch_size}
        if known.keep is not None:
            sizes["keep"] = known.keep.shape[0]
        for what, size in sizes.items():
            if size not in (1, batch):
                raise ShapeError(f"known {what} of {size} pictures given; expected 1 or {batch}")
        self._known = known
        self._tokenizer = tokenizer
        self._batch = batch

    def is_given(self, scale: int) -> bool:
        """Whether a scale is taken whole."""
        return scale < self._known.scales

    def level(self, scale: int) -> Tensor:
        """Return the known indices ``(B, h, w, G)`` of a scale."""
        level = self._known.tokens.levels[scale].to(self._tokenizer.device)
        return level.expand(self._batch, -1, -1, -1)

    def restored(
        self, level: Tensor, codes: Tensor | None, scale: int
    ) -> tuple[Tensor, Tensor | None]:
        """Put the known tokens of a scale in their places.

        Args:
            level: indices ``(B, h, w, G)`` that were drawn.
            codes: vectors ``(B, p h, p w, D)`` to be read in their place, or None.
            scale: its number, from 0.
        """
        if self._known.keep is None:
            return level, codes
        keep = self._known.keep.to(level.device)
        stays = kept_tokens(keep, level.shape[1:3]).unsqueeze(-1)
        known = self.level(scale)
        if codes is not None:
            own = self._tokenizer.quantizer.indices_to_codes(self._tokenizer.split(known))
            patch = self._tokenizer.patch
            fine = stays.repeat_interleave(patch, 1).repeat_interleave(patch, 2)
            codes = torch.where(fine, own, codes)
        return torch.where(stays, known, level), codes


def kept_tokens(keep: Tensor, grid: Sequence[int]) -> Tensor:
    """Return bool ``(B, h, w)``: where at least half of a token's area is kept."""
    share = F.adaptive_avg_pool2d(keep.float().unsqueeze(1), (grid[0], grid[1]))
    return share.squeeze(1) >= _HALF


def known_of_files(
    tokenizer: NextScaleTokenizer,
    grids: Sequence[Grid],
    picture: Picture,
    scales: int,
    mask: Picture | None = None,
) -> Known:
    """Make known tokens of a picture and a mask.

    Args:
        tokenizer: makes the tokens.
        grids: of all scales that the generator writes; they give the size of the pictures.
        picture: is resized so that it covers that size, and cropped at its centre.
        scales: the first so many scales are taken whole.
        mask: white where the picture is drawn anew, black where it stays; resized and cropped in
            the same way.

    Raises:
        PictureError: if a file cannot be read.
    """
    size = (grids[-1][1] * tokenizer.stride, grids[-1][0] * tokenizer.stride)
    image = ImageOps.fit(open_image(picture), size, Image.Resampling.LANCZOS)
    tokens = tokenizer.encode(from_pixels(np.array(image)))
    keep = None
    if mask is not None:
        fitted = ImageOps.fit(open_image(mask).convert("L"), size, Image.Resampling.BILINEAR)
        keep = torch.from_numpy(np.array(fitted) < _WHITE // 2)[None]
    return Known(tokens, scales, keep)


__all__ = ["Known", "KnownScales", "kept_tokens", "known_of_files"]
