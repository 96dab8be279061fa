"""Reading of pictures: any supported file becomes an upright 8-bit sRGB image, or one clear error.

Only a closed list of formats is tried (none that runs a program or a script), the size is checked
before a pixel is decoded, and the first frame of an animation is taken.
"""

from __future__ import annotations

import io
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from tessella.errors import PictureError
from tessella.images.colour import Colour, to_srgb

Picture = Image.Image | str | Path | bytes | BinaryIO
Pixels = NDArray[np.uint8]

DEFAULT_MAX_PIXELS = 2**27
WHITE: Colour = (255, 255, 255)

_PLUGINS = (
    PngImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    WebPImagePlugin,
    AvifImagePlugin,
    TiffImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    PpmImagePlugin,
)
_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM")  # MPO opens as JPEG
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(
    picture: Picture,
    *,
    name: str = "",
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    background: Colour = WHITE,
) -> Image.Image:
    """Read a picture as an upright PIL image of mode RGB, 8-bit sRGB.

    EXIF orientation is applied, an embedded colour profile is converted to sRGB, 16-bit values are
    scaled, and transparency is composited.

    Args:
        picture: a path, the bytes of a file, a binary stream, or a PIL image.
        name: what to call the picture in messages; its path by default.
        max_pixels: refuse larger pictures before they are decoded; None accepts any size.
        background: colour behind transparent pixels, 0 to 255 each; white by default.

    Raises:
        PictureError: if the picture is missing, damaged, too large or of an unknown kind.
    """
    name = name or _name_of(picture)
    with ExitStack() as stack:
        image = picture if isinstance(picture, Image.Image) else _open(picture, name, stack)
        _check_size(image, name, max_pixels)
        try:
            image.load()
            return to_srgb(_upright(image), name=name, background=background)
        except PictureError:
            raise
        except Exception as error:  # plugins raise many kinds for damaged files
            raise PictureError(f"{name} is damaged or truncated: {error}") from error


def decode_rgb(
    picture: Picture,
    *,
    name: str = "",
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    background: Colour = WHITE,
) -> Pixels:
    """Read a picture as uint8 ``(H, W, 3)``; see :func:`open_image` for arguments and errors."""
    return np.array(open_image(picture, name=name, max_pixels=max_pixels, background=background))


def _name_of(picture: Picture) -> str:
    if isinstance(picture, (str, Path)):
        return str(picture)
    return str(getattr(picture, "filename", "") or getattr(picture, "name", "") or "the picture")


def _open(picture: str | Path | bytes | BinaryIO, name: str, stack: ExitStack) -> Image.Image:
    """Open a file of one of the formats without decoding it."""
    stream = _stream(picture, name, stack)
    try:
        prefix = stream.read(16)
        for kind in _FORMATS:
            factory, accept = Image.OPEN[kind]
            if accept is not None and accept(prefix) is not True:
                continue
            stream.seek(0)
            # Image.open is not used: its own size limit is a global of the process and warns
            return factory(stream, "")
    except Exception as error:  # plugins raise many kinds for damaged files
        raise PictureError(f"{name} is damaged or truncated: {error}") from error
    begin = f"it begins with {prefix[:8].hex(' ')}" if prefix else "it is empty"
    raise PictureError(
        f"{name} is not a picture of a known kind ({begin}); expected one of {', '.join(_FORMATS)}"
    )


def _stream(picture: str | Path | bytes | BinaryIO, name: str, stack: ExitStack) -> BinaryIO:
    if isinstance(picture, bytes):
        return io.BytesIO(picture)
    if not isinstance(picture, (str, Path)):
        return picture if picture.seekable() else io.BytesIO(picture.read())
    try:
        return stack.enter_context(Path(picture).open("rb"))
    except FileNotFoundError as error:
        raise PictureError(f"{name} does not exist; expected a picture file") from error
    except OSError as error:
        raise PictureError(f"{name} cannot be read: {error.strerror}") from error


def _check_size(image: Image.Image, name: str, max_pixels: int | None) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise PictureError(f"{name} has {width}x{height} pixels; expected at least 1x1")
    if max_pixels is not None and width * height > max_pixels:
        raise PictureError(
            f"{name} has {width}x{height} = {width * height} pixels; the limit is {max_pixels}: "
            "pass max_pixels=None (--max-pixels 0) if you trust it"
        )


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF data does not damage the pixels
        orientation = 1
    method = _UPRIGHT.get(orientation)
    if method is None:
        return image
    info = image.info
    image = image.transpose(method)
    image.info = info  # profile and transparency
    return image


__all__ = ["DEFAULT_MAX_PIXELS", "WHITE", "Picture", "Pixels", "decode_rgb", "open_image"]
