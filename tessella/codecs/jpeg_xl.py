"""JPEG XL by pillow-jxl-plugin, an extra.

The plugin decodes a whole picture when it opens it, so its size is read here before: from the
``SizeHeader`` of the codestream (ISO/IEC 18181-1), bits from the least significant on.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType

from PIL import Image

from tessella.codecs.base import Qualities
from tessella.codecs.pillow_codec import Options, PillowCodec
from tessella.errors import PictureError

_MODULE = "pillow_jxl"
_PACKAGE = "pillow-jxl-plugin"
_MAGIC = b"\xff\x0a"
_SIZE_BYTES = 12  # two sides of at most 32 bits and 4 bits more
_SIDE_BITS = (9, 13, 18, 30)
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width to height
_LOSSLESS = 100


class JpegXL(PillowCodec):
    """JPEG XL: a bare codestream, effort 7."""

    name = "jxl"
    title = "JPEG XL"
    format = "JXL"
    library = _PACKAGE
    qualities = Qualities(1, _LOSSLESS, 75, "libjxl's; 100 is lossless")
    _options = MappingProxyType({"effort": 7, "num_threads": 1, "use_container": False})

    @property
    def _version(self) -> str:
        try:
            return version(_PACKAGE)
        except PackageNotFoundError:
            return "absent"

    def _rate_options(self, quality: int) -> Options:
        return {"quality": quality, "lossless": quality == _LOSSLESS}

    @property
    def _rate_text(self) -> str:
        return f"quality=QUALITY, lossless=QUALITY=={_LOSSLESS}"

    @property
    def missing(self) -> str:
        """What to install where the plugin is absent."""
        try:
            import_module(_MODULE)  # registers the format with Pillow
        except ImportError:
            return f"{self.name} needs the package {_PACKAGE}: pip install 'tessella[jxl]'"
        return ""

    def _open(self, data: bytes, name: str, max_pixels: int | None) -> Image.Image:
        if not data.startswith(_MAGIC):
            start = f"begins with {data[:8].hex(' ')}" if data else "is empty"
            raise PictureError(f"{name} {start}; expected a codestream, which begins with ff 0a")
        width, height = codestream_size(data)
        if max_pixels is not None and width * height > max_pixels:
            raise PictureError(
                f"{name} has {width}x{height} = {width * height} pixels; the limit is "
                f"{max_pixels}: pass max_pixels=None if you trust it"
            )
        return super()._open(data, name, max_pixels)


def codestream_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a JPEG XL codestream; bits that are missing count as 0."""
    bits = int.from_bytes(data[len(_MAGIC) : len(_MAGIC) + _SIZE_BYTES], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    is_small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if is_small else take(_SIDE_BITS[take(2)]) + 1

    height = side()
    ratio = take(3)
    if not ratio:
        return side(), height
    numerator, denominator = _RATIOS[ratio - 1]
    return height * numerator // denominator, height


__all__ = ["JpegXL", "codestream_size"]
