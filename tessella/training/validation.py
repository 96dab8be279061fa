"""Validation on whole pictures: PSNR and SSIM at several rates, and what they look like."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tessella.data.pictures import PictureSet
from tessella.errors import PictureError
from tessella.eval import mean_psnr, ms_ssim, psnr, ssim, to_uint8
from tessella.eval.ssim import SCALE_WEIGHTS, most_scales
from tessella.images import Pixels, from_pixels
from tessella.tokenizers.base import Tokenizer
from tessella.tokens import TokenLayout, Tokens

if TYPE_CHECKING:
    from accelerate import Accelerator

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Truncation:
    """How much of the tokens is kept: everything, or the first groups or positions."""

    groups: int | None = None
    length: int | None = None

    @property
    def label(self) -> str:
        """``q4`` for four groups, ``n32`` for 32 positions, ``all`` for everything."""
        if self.groups is not None:
            return f"q{self.groups}"
        return f"n{self.length}" if self.length is not None else "all"

    def apply(self, tokens: Tokens) -> Tokens:
        """Return the tokens that are kept."""
        if self == Truncation():
            return tokens
        return tokens.truncate(groups=self.groups, length=self.length)


@dataclass(frozen=True, slots=True)
class Row:
    """Means over the pictures at one truncation.

    Args:
        keep: label of the truncation.
        bpp: bits per pixel before entropy coding.
        psnr: decibels, 8-bit pixels; identical pictures count as 100.
        ssim: Gaussian 11x11 window; pictures with a side below 11 pixels are left out.
        ms_ssim: five scales; pictures with a side below 161 pixels are left out. None where it
            was not measured on any.
    """

    keep: str
    bpp: float
    psnr: float
    ssim: float | None
    ms_ssim: float | None = None


def truncations(layout: TokenLayout) -> list[Truncation]:
    """Return the truncations to look at: 1, 2, 4, ... and all of the ordered axis."""
    level = layout.levels[0]
    if len(layout.levels) > 1 or level.ordered == "none":
        return [Truncation()]
    most = level.groups if level.ordered == "groups" else level.grid[0]
    counts = [2**i for i in range(most.bit_length()) if 2**i < most]
    if level.ordered == "length":
        counts = counts[-4:]  # shorter sequences say little and cost as much
        return [*(Truncation(length=n) for n in counts), Truncation(length=most)]
    return [*(Truncation(groups=n) for n in counts), Truncation(groups=most)]


def validate(
    model: Tokenizer,
    pictures: PictureSet,
    indices: Sequence[int],
    *,
    side: int,
    accelerator: Accelerator | None = None,
    with_ms_ssim: bool = False,
) -> list[Row]:
    """Measure a tokenizer on pictures; with several processes each takes its share.

    Args:
        model: the tokenizer.
        pictures: where they come from.
        indices: which of them.
        side: longer sides are cut to the central part of this many pixels.
        accelerator: the processes that share the work; a collective call then.
        with_ms_ssim: measure MS-SSIM too.

    Returns:
        One row a truncation, least first; empty if no picture could be read.
    """
    rank, world = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    cuts = truncations(model.layout(model.stride * 8, model.stride * 8))
    totals = torch.zeros(2, len(cuts), 4, dtype=torch.float64)  # sums and counts of the columns
    for index in indices[rank::world]:
        image = read_image(pictures, index, side)
        if image is None:
            continue
        tokens = model.encode(image)
        for i, cut in enumerate(cuts):
            kept = cut.apply(tokens)
            outputs = to_uint8(model.decode(kept)).cpu()
            bpp = kept.bits / image[0, 0].numel()
            values = _measure(outputs, to_uint8(image), bpp, with_ms_ssim=with_ms_ssim)
            totals[0, i] += values.nan_to_num()
            totals[1, i] += values.isfinite()
    if accelerator and world > 1:
        totals = accelerator.reduce(totals.to(accelerator.device), reduction="sum").cpu()
    sums, counts = totals
    if not counts[0, 0]:
        return []
    return [_row(cut, *pair) for cut, *pair in zip(cuts, sums, counts, strict=True)]


def read_image(pictures: PictureSet, index: int, side: int) -> Tensor | None:
    """Return a picture ``(1, 3, H, W)`` in [-1, 1], or None with a warning if it is damaged."""
    try:
        pixels = pictures[index]
    except PictureError as error:
        _log.warning("picture skipped: %s", error)
        return None
    return from_pixels(central_part(pixels, side))


def central_part(pixels: Pixels, side: int) -> Pixels:
    """Cut ``(H, W, 3)`` to at most ``side`` by ``side`` around the centre."""
    height, width = pixels.shape[:2]
    top, left = max(height - side, 0) // 2, max(width - side, 0) // 2
    return pixels[top : top + side, left : left + side]


def spread(count: int, most: int) -> list[int]:
    """Return up to ``most`` indices (0 for all) spread evenly over ``range(count)``."""
    chosen = min(count, most) if most else count
    return [i * count // chosen for i in range(chosen)]


def picture_grid(
    model: Tokenizer, pictures: PictureSet, indices: Sequence[int], *, side: int
) -> tuple[list[str], Pixels] | None:
    """Draw pictures and their reconstructions: a row a picture, a column a truncation.

    Returns:
        The columns' labels and the grid ``(H, W, 3)``; None if no picture could be read.
    """
    cuts = truncations(model.layout(model.stride * 8, model.stride * 8))
    rows = []
    for index in indices:
        image = read_image(pictures, index, side)
        if image is None:
            continue
        tokens = model.encode(image)
        cells = [image, *(model.decode(cut.apply(tokens)).cpu() for cut in cuts)]
        rows.append([_cell(to_uint8(cell), side) for cell in cells])
    if not rows:
        return None
    grid = np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)
    return ["original", *(cut.label for cut in cuts)], grid


def _cell(pixels: Tensor, side: int) -> Pixels:
    """Put a picture ``(1, 3, H, W)`` on a white square with a margin of 2 pixels."""
    cell = np.full((side + 4, side + 4, 3), 255, dtype=np.uint8)
    picture = pixels[0].permute(1, 2, 0).numpy()
    cell[2 : 2 + picture.shape[0], 2 : 2 + picture.shape[1]] = picture
    return cell


def _measure(outputs: Tensor, references: Tensor, bpp: float, *, with_ms_ssim: bool) -> Tensor:
    """Return bpp, PSNR, SSIM and MS-SSIM of one picture; NaN where a metric cannot be had."""
    scales = most_scales(min(outputs.shape[-2:]))
    with_ms_ssim = with_ms_ssim and scales == len(SCALE_WEIGHTS)
    return torch.tensor(
        [
            bpp,
            mean_psnr(psnr(outputs, references)),
            float(ssim(outputs, references)) if scales else math.nan,
            float(ms_ssim(outputs, references)) if with_ms_ssim else math.nan,
        ],
        dtype=torch.float64,
    )


def _row(cut: Truncation, sums: Tensor, counts: Tensor) -> Row:
    bpp, decibels, *similarities = (sums / counts).tolist()
    return Row(cut.label, bpp, decibels, *(None if math.isnan(v) else v for v in similarities))


__all__ = [
    "Row",
    "Truncation",
    "central_part",
    "picture_grid",
    "read_image",
    "spread",
    "truncations",
    "validate",
]
