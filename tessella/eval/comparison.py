"""A picture beside other codecs at the same bytes and beside itself decoded from tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFont

from tessella.codecs.base import Codec
from tessella.codecs.classical import Jpeg
from tessella.codecs.size_search import SizeSearch
from tessella.eval.psnr import psnr
from tessella.images import DEFAULT_MAX_PIXELS, Picture, Pixels, decode_rgb

_GAP = 8
_GROUND = (255, 255, 255)
_INK = (20, 20, 20)
_LARGEST_TEXT, _SMALLEST_TEXT = 28, 6
_NARROWEST = 240  # pixels of a column, so that captions of small pictures can be read

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of a comparison.

    Args:
        label: what made it.
        pixels: uint8 ``(H, W, 3)``.
        num_bytes: size of its file; 0 for the original.
        psnr: decibels against the original; infinite for itself.
    """

    label: str
    pixels: Pixels
    num_bytes: int
    psnr: float

    @property
    def bpp(self) -> float:
        """Bits of the file per pixel."""
        height, width = self.pixels.shape[:2]
        return float(8 * self.num_bytes / (height * width))

    @property
    def caption(self) -> str:
        """Label, size and quality in one line."""
        if not self.num_bytes:
            return f"{self.label}   {self.pixels.shape[1]}x{self.pixels.shape[0]}"
        return f"{self.label}   {self.num_bytes} bytes   {self.bpp:.3f} bpp   {self.psnr:.2f} dB"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows of original, other codecs and ours, one a number of kept parts.

    Args:
        rows: the panels, as many in every row.
    """

    rows: tuple[tuple[Panel, ...], ...]

    def sheet(self) -> Image.Image:
        """Draw all panels with their captions."""
        height, width = self.rows[0][0].pixels.shape[:2]
        captions = [panel.caption for row in self.rows for panel in row]
        cell = max(width, _NARROWEST)
        font, text = _font(captions, cell)
        band = 2 * text
        columns = len(self.rows[0])
        size = (
            columns * (cell + _GAP) + _GAP,
            len(self.rows) * (height + band + _GAP) + _GAP,
        )
        sheet = Image.new("RGB", size, _GROUND)
        draw = ImageDraw.Draw(sheet)
        for i, row in enumerate(self.rows):
            top = _GAP + i * (height + band + _GAP)
            for j, panel in enumerate(row):
                left = _GAP + j * (cell + _GAP)
                draw.text((left, top + band // 4), panel.caption, fill=_INK, font=font)
                sheet.paste(Image.fromarray(panel.pixels), (left, top + band))
        return sheet


def compare(
    picture: Picture,
    codec: Codec,
    *,
    keep: Sequence[int | None] = (None,),
    peers: Sequence[Codec] | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
) -> Comparison:
    """Code a picture with tokens and with other codecs at the same bytes.

    A peer gets the highest quality that fits; where none does, its smallest file, and its label
    says so.

    Args:
        picture: a path, the bytes of a file, a binary stream, or a PIL image.
        codec: the tokenizer and its prior.
        keep: how many groups (positions, levels) to keep; one row each, None for all.
        peers: what to compare with, a column each; JPEG by default.
        max_pixels: refuse larger pictures; None accepts any size.

    Raises:
        PictureError: if the picture cannot be read, or a peer cannot hold it.
        ConfigError: if one of ``keep`` is out of range.
        MissingDependencyError: if a library of a peer is not installed.
    """
    pixels = decode_rgb(picture, max_pixels=max_pixels)
    original = Panel("original", pixels, 0, float("inf"))
    for count in keep:
        codec.check_quality(count)  # fail before the work
    peers = (Jpeg(),) if peers is None else peers
    searches = [SizeSearch(peer, pixels) for peer in peers]
    prepared = codec.prepare(pixels)
    rows = []
    for count in keep:
        data = prepared.compress(count)
        theirs = [_matched(p, s, pixels, len(data)) for p, s in zip(peers, searches, strict=True)]
        kept = "" if count is None else f", {count} kept"
        ours = _panel(f"tessella{kept}", codec, data, pixels)
        rows.append((original, *theirs, ours))
    return Comparison(tuple(rows))


def _matched(peer: Codec, search: SizeSearch, pixels: Pixels, num_bytes: int) -> Panel:
    """Return the panel of a peer at a number of bytes, or of its smallest file."""
    found = search.at_most(num_bytes)
    label = peer.title if found.fits else f"{peer.title}, smallest file"
    return _panel(label, peer, found.data, pixels)


def _panel(label: str, codec: Codec, data: bytes, original: Pixels) -> Panel:
    height, width = original.shape[:2]
    pixels = codec.decompress(data, max_pixels=height * width)
    return Panel(label, pixels, len(data), _psnr(pixels, original))


def _psnr(pixels: Pixels, reference: Pixels) -> float:
    images, references = (torch.from_numpy(p).permute(2, 0, 1)[None] for p in (pixels, reference))
    return float(psnr(images, references))


def _font(captions: Sequence[str], width: int) -> tuple[_Font, int]:
    """Return the largest font of 6 to 28 pixels in which every caption fits, and its size."""
    for size in range(_LARGEST_TEXT, _SMALLEST_TEXT, -1):
        font = ImageFont.load_default(size)
        if max(font.getlength(caption) for caption in captions) <= width:
            return font, size
    return ImageFont.load_default(_SMALLEST_TEXT), _SMALLEST_TEXT


__all__ = ["Comparison", "Panel", "compare"]
