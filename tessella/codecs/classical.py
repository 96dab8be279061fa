"""Classical codecs: JPEG, WebP, AVIF, JPEG 2000, JPEG XL and PNG with stated settings.

They are the yardsticks of every report. Each is set as its users would who want small files:
optimized tables, the slow search where it costs milliseconds, a colour transform.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

from PIL import AvifImagePlugin, Jpeg2KImagePlugin, features

from tessella.codecs.base import Codec, Qualities
from tessella.codecs.jpeg_xl import JpegXL
from tessella.codecs.pillow_codec import Options, PillowCodec

_AVIF_SPEED = 6
_AVIF_ENCODER = "aom"
_BITS_OF_SOURCE = 24  # a pixel of 8-bit RGB
_JP2_STEPS = 100  # of quality, a bit per pixel


class Jpeg(PillowCodec):
    """JPEG with optimized Huffman tables.

    Progressive files decode to the same pixels as baseline ones. They are larger below about 0.3
    bits per pixel and a few per cent smaller above.

    Args:
        subsampling: "4:2:0" halves chroma both ways, "4:4:4" keeps it.
        is_progressive: write several scans.
    """

    format = "JPEG"
    library = "libjpeg"
    feature = "jpg"
    qualities = Qualities(1, 100, 75, "scales the standard quantisation tables, as libjpeg does")

    def __init__(
        self, subsampling: Literal["4:2:0", "4:4:4"] = "4:2:0", *, is_progressive: bool = False
    ) -> None:
        self.subsampling = subsampling
        self.is_progressive = is_progressive

    @property
    def name(self) -> str:
        """``jpeg``, ``jpeg-444``, and both with ``-progressive``."""
        parts = ["jpeg"]
        parts += ["444"] if self.subsampling == "4:4:4" else []
        parts += ["progressive"] if self.is_progressive else []
        return "-".join(parts)

    @property
    def title(self) -> str:
        """The name as captions and tables write it."""
        chroma = " 4:4:4" if self.subsampling == "4:4:4" else ""
        return f"JPEG{chroma}{' progressive' if self.is_progressive else ''}"

    @property
    def _version(self) -> str:
        turbo = features.version("libjpeg_turbo")
        return f"(turbo {turbo})" if turbo else super()._version

    @property
    def _options(self) -> Options:
        return {
            "optimize": True,
            "progressive": self.is_progressive,
            "subsampling": self.subsampling,
        }


class WebP(PillowCodec):
    """Lossy WebP (VP8) with the slowest search; 4:2:0, as the format demands."""

    name = "webp"
    title = "WebP"
    format = "WEBP"
    library = "libwebp"
    feature = "webp"
    qualities = Qualities(0, 100, 75, "libwebp's; 100 is not lossless")
    _options = MappingProxyType({"method": 6})


class Avif(PillowCodec):
    """AVIF with one thread, so that its bytes do not depend on the number of cores."""

    name = "avif"
    title = "AVIF"
    format = "AVIF"
    library = "libavif"
    feature = "avif"
    qualities = Qualities(0, 100, 60, "libavif's; neighbours often give the same file")
    _options = MappingProxyType(
        {
            "codec": _AVIF_ENCODER,
            "speed": _AVIF_SPEED,
            "subsampling": "4:2:0",
            "max_threads": 1,
        }
    )

    @property
    def _version(self) -> str:
        encoder = AvifImagePlugin.get_codec_version(_AVIF_ENCODER)
        return f"{super()._version} ({_AVIF_ENCODER} {encoder})"

    @property
    def missing(self) -> str:
        """What to install where Pillow was built without the library or its encoder."""
        has_encoder = AvifImagePlugin.get_codec_version(_AVIF_ENCODER) is not None
        return super().missing or ("" if has_encoder else self._built_without(_AVIF_ENCODER))


class Jpeg2000(PillowCodec):
    """JPEG 2000 (JP2 file) with the irreversible wavelet and colour transform, one layer."""

    name = "jp2"
    title = "JPEG 2000"
    format = Jpeg2KImagePlugin.Jpeg2KImageFile.format
    library = "OpenJPEG"
    feature = "jpg_2000"
    qualities = Qualities(1, 1200, 100, "hundredths of a bit per pixel")
    # without mct, which Pillow leaves off, colours are coded apart: some 2 to 4 dB worse
    _options = MappingProxyType({"irreversible": True, "mct": 1, "quality_mode": "rates"})

    def _rate_options(self, quality: int) -> Options:
        return {"quality_layers": [_BITS_OF_SOURCE * _JP2_STEPS / quality]}

    @property
    def _rate_text(self) -> str:
        return f"quality_layers=[{_BITS_OF_SOURCE * _JP2_STEPS}/QUALITY]"


class Png(PillowCodec):
    """PNG, the lossless anchor."""

    name = "png"
    title = "PNG"
    format = "PNG"
    library = "zlib"
    feature = "zlib"
    qualities = Qualities(100, 100, 100, "PNG is lossless, so there is one")
    is_lossless = True
    _options = MappingProxyType({"optimize": True})
    _rate_text = ""

    def _rate_options(self, quality: int) -> Options:
        return {}


def classical_codecs() -> dict[str, Codec]:
    """Return all classical codecs by name, whether or not their libraries are installed.

    Example:
        >>> list(classical_codecs())[:3]
        ['jpeg', 'jpeg-444', 'jpeg-progressive']
    """
    codecs: tuple[Codec, ...] = (
        Jpeg(),
        Jpeg("4:4:4"),
        Jpeg(is_progressive=True),
        Jpeg("4:4:4", is_progressive=True),
        WebP(),
        Avif(),
        Jpeg2000(),
        JpegXL(),
        Png(),
    )
    return {codec.name: codec for codec in codecs}


__all__ = ["Avif", "Jpeg", "Jpeg2000", "Png", "WebP", "classical_codecs"]
