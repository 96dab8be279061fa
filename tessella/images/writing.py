"""Writing of pictures and other files: aside first, then renamed; nothing is half written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image
from torch import Tensor

from tessella.errors import PictureError
from tessella.images.reading import Pixels
from tessella.images.tensors import to_pixels

# Pillow's name of the format and how to save: without loss wherever the format can.
_SUFFIXES: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0, "optimize": True}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0, "optimize": True}),
    ".webp": ("WEBP", {"lossless": True}),
    ".avif": ("AVIF", {"quality": 95}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
    ".bmp": ("BMP", {}),
    ".ppm": ("PPM", {}),
}
PICTURE_SUFFIXES = frozenset({*_SUFFIXES, ".gif"})
"""Suffixes of files that are taken for pictures in a folder."""

_LARGE = 2**24  # pixels from which PNG's quicker compression is used
_QUICK = 3


def save_image(path: Path | str, picture: Tensor | Pixels | Image.Image) -> None:
    """Write one picture; the suffix gives the format.

    PNG, WebP, TIFF, BMP and PPM are written without loss, JPEG and AVIF at quality 95. The file is
    complete or absent: it is written under a temporary name and renamed.

    Args:
        path: where to write; an existing file is replaced.
        picture: floats ``(1, 3, H, W)`` or ``(3, H, W)`` in [-1, 1], uint8 ``(H, W, 3)``, or a PIL
            image.

    Raises:
        PictureError: if the suffix is unknown or the file cannot be written.
        ShapeError: if the tensor is not one picture.
    """
    path = Path(path)
    format_of(path)
    try:
        with atomic_file(path) as stream:
            write_image(stream, picture, path.suffix)
    except OSError as error:
        raise PictureError(f"{path} cannot be written: {error}") from error


def write_image(
    stream: BinaryIO, picture: Tensor | Pixels | Image.Image, suffix: str = ".png"
) -> None:
    """Write one picture to a stream, in the format of a suffix; see :func:`save_image`.

    Raises:
        PictureError: if the suffix is unknown or the format cannot hold the picture.
        ShapeError: if the tensor is not one picture.
    """
    image_format, options = format_of(Path(f"picture{suffix}"))
    if isinstance(picture, Tensor):
        picture = to_pixels(picture)
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    if image_format == "PNG" and image.width * image.height > _LARGE:
        options = {"compress_level": _QUICK}
    try:
        image.save(stream, format=image_format, **options)
    except ValueError as error:
        size = f"{image.width}x{image.height}"
        raise PictureError(f"{image_format} cannot hold {size} pixels: {error}") from error


def format_of(path: Path) -> tuple[str, dict[str, Any]]:
    """Return Pillow's format name and save options for a path.

    Raises:
        PictureError: if the suffix is unknown.
    """
    try:
        return _SUFFIXES[path.suffix.lower()]
    except KeyError as error:
        raise PictureError(
            f"{path} has the suffix {path.suffix!r}; expected one of {', '.join(_SUFFIXES)}"
        ) from error


@contextmanager
def atomic_file(path: Path | str) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name only when complete.

    Raises:
        OSError: if the folder cannot be written to.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}.tmp")
    try:
        with aside.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


__all__ = ["PICTURE_SUFFIXES", "atomic_file", "format_of", "save_image", "write_image"]
