"""Picture formats as codecs: Pillow writes and reads them, with stated options."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import numpy as np
import PIL
from PIL import Image, features

from tessella.codecs.base import Codec, Prepared
from tessella.errors import PictureError, ShapeError
from tessella.images import DEFAULT_MAX_PIXELS, Picture, Pixels, decode_rgb, open_image

Options = Mapping[str, object]


class PillowCodec(Codec):
    """A picture format that Pillow, or a plugin of it, writes and reads.

    Metadata of the source (colour profile, EXIF, comments) are not written: pictures are upright
    sRGB, and every byte counts.
    """

    format: ClassVar[str]
    """Pillow's name of the format."""
    library: ClassVar[str]
    """Who does the work, as :attr:`settings` names it."""
    feature: ClassVar[str]
    """What Pillow calls the library."""

    @property
    @abstractmethod
    def _options(self) -> Options:
        """Arguments of Pillow's ``save`` at every quality."""

    def _rate_options(self, quality: int) -> Options:
        """Return the arguments of Pillow's ``save`` that follow from the quality."""
        return {"quality": quality}

    @property
    def _rate_text(self) -> str:
        """How quality goes into the options, in Pillow's words; empty if it does not."""
        return "quality=QUALITY"

    @property
    def _version(self) -> str:
        """Version of the library; "absent" where it is not installed."""
        return features.version(self.feature) or "absent"

    @property
    def settings(self) -> str:
        """The library, versions, and the arguments of Pillow's ``save``."""
        fixed = [f"{key}={value}" for key, value in self._options.items()]
        options = ", ".join([*filter(None, [self._rate_text]), *fixed])
        return f"{self.library} {self._version} by Pillow {PIL.__version__}: {options}"

    @property
    def missing(self) -> str:
        """What to install where Pillow was built without the library."""
        return "" if features.check(self.feature) else self._built_without(self.library)

    def _built_without(self, part: str) -> str:
        return (
            f"{self.name} needs {part}, which this Pillow {PIL.__version__} was built without; "
            "install Pillow's own wheel: pip install --force-reinstall Pillow"
        )

    def prepare(self, picture: Picture | Pixels) -> Prepared:
        """Read a picture and drop its metadata."""
        self.check_installed()
        return Prepared(partial(self._save, _without_metadata(picture)), self.qualities)

    def _save(self, image: Image.Image, quality: int | None = None) -> bytes:
        rate = self._rate_options(self.check_quality(quality))
        stream = io.BytesIO()
        try:
            image.save(stream, format=self.format, **self._options, **rate)
        except (OSError, ValueError, RuntimeError) as error:  # as the format's limit of sides
            size = f"{image.width}x{image.height}"
            raise PictureError(f"{self.title} cannot hold {size} pixels: {error}") from error
        return stream.getvalue()

    def decompress(self, data: bytes, *, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Pixels:
        """Return the picture of a file, uint8 ``(H, W, 3)``; see :meth:`Codec.decompress`."""
        self.check_installed()
        name = f"the {self.title} file"
        with self._open(data, name, max_pixels) as image:
            return decode_rgb(image, name=name, max_pixels=max_pixels)

    def _open(self, data: bytes, name: str, max_pixels: int | None) -> Image.Image:
        """Read the header. Formats whose header Pillow does not read alone mind the limit."""
        factory, accept = Image.OPEN[self.format]
        begin = data[:16]
        if accept is not None and accept(begin) is not True:
            start = f"begins with {begin[:8].hex(' ')}" if data else "is empty"
            raise PictureError(f"{name} {start}; expected a file that codec {self.name} wrote")
        try:
            return factory(io.BytesIO(data), "")
        except Exception as error:  # plugins raise many kinds for damaged files
            raise PictureError(f"{name} is damaged or truncated: {error}") from error


def _without_metadata(picture: Picture | Pixels) -> Image.Image:
    """Return an RGB image that carries pixels alone.

    Raises:
        PictureError: if the picture cannot be read.
        ShapeError: if an array is not uint8 ``(H, W, 3)``.
    """
    pixels = picture if isinstance(picture, np.ndarray) else np.array(open_image(picture))
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ShapeError(
            f"an array of shape {pixels.shape} and dtype {pixels.dtype} given; expected a picture, "
            "uint8 (H, W, 3)"
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


__all__ = ["Options", "PillowCodec"]
