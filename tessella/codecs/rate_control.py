"""The file of a picture that meets a size or a PSNR, for every codec that has a quality.

Sizes are those of files and the PSNR is that of the decoded file, nothing is estimated. ``psnr =
10 log10(255^2 / mean (x - y)^2)`` over the RGB values of 8-bit pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tessella.codecs.base import Codec
from tessella.codecs.size_search import SizeSearch
from tessella.errors import ConfigError, TargetError
from tessella.images import Picture, Pixels, decode_rgb

_NEAR_SIZE = 0.002  # of the size asked for; a file within it is not searched any further
_NEAR_PSNR = 0.01  # decibels
_INTERPOLATIONS = 8  # after that the search halves, which always ends


@dataclass(frozen=True, slots=True)
class RatedFile:
    """A file that meets a target.

    Args:
        data: the file.
        quality: its quality, one of the codec's for this picture.
        psnr: decibels of the decoded file; None where they were not asked for.
    """

    data: bytes
    quality: int
    psnr: float | None = None


def compress_to_bytes(codec: Codec, picture: Picture | Pixels, num_bytes: int) -> RatedFile:
    """Compress a picture to the best file of at most so many bytes.

    Where bytes grow evenly with quality, a file within 0.2 % of the size is good enough.

    Args:
        codec: compresses.
        picture: a path, the bytes of a file, a binary stream, a PIL image, or uint8 ``(H, W, 3)``.
        num_bytes: the size that must not be exceeded.

    Raises:
        ConfigError: if ``num_bytes`` is not positive.
        TargetError: if even the smallest file is larger; the message gives its size.
        PictureError: if the picture cannot be read or is larger than the format allows.
        MissingDependencyError: if a library of the codec is not installed.
    """
    if num_bytes < 1:
        raise ConfigError(f"{num_bytes} bytes asked for; expected at least 1")
    search = SizeSearch(codec, picture)
    qualities = search.qualities
    if not qualities.is_even:
        found = search.at_most(num_bytes)
        if not found.fits:
            raise _too_large(codec, num_bytes, found.data)
        return RatedFile(found.data, found.quality)
    if len(search.at(qualities.lowest)) > num_bytes:
        raise _too_large(codec, num_bytes, search.at(qualities.lowest))
    # of the qualities turned round, the lowest that is small enough
    quality = -_lowest_reaching(
        lambda turned: -float(len(search.at(-turned))),
        (-qualities.highest, -qualities.lowest),
        -float(num_bytes),
        _NEAR_SIZE * num_bytes,
    )
    return RatedFile(search.at(quality), quality)


def compress_to_psnr(codec: Codec, picture: Picture | Pixels, decibels: float) -> RatedFile:
    """Compress a picture to the smallest file whose decoded picture reaches a PSNR.

    Bisection over qualities, decoding each file that is tried; where bytes grow evenly with
    quality, a file within 0.01 dB above the target is good enough.

    Args:
        codec: compresses.
        picture: a path, the bytes of a file, a binary stream, a PIL image, or uint8 ``(H, W, 3)``.
        decibels: the PSNR to reach.

    Raises:
        ConfigError: if ``decibels`` is not a number.
        TargetError: if the highest quality does not reach it; the message gives what it reaches.
        PictureError: if the picture cannot be read or is larger than the format allows.
        MissingDependencyError: if a library of the codec is not installed.
    """
    if math.isnan(decibels):
        raise ConfigError("a PSNR of nan dB asked for; expected a number")
    pixels = picture if isinstance(picture, np.ndarray) else decode_rgb(picture)
    search = SizeSearch(codec, pixels)
    reached: dict[int, float] = {}

    def psnr_at(quality: int) -> float:
        if quality not in reached:
            decoded = codec.decompress(search.at(quality), max_pixels=None)
            reached[quality] = _psnr(decoded, pixels)
        return reached[quality]

    qualities = search.qualities
    most = psnr_at(qualities.highest)
    if most < decibels:
        raise TargetError(
            f"{codec.name} reaches {most:.2f} dB of this picture at most, in "
            f"{len(search.at(qualities.highest))} bytes; {decibels:g} dB asked for: ask for less"
        )
    near = _NEAR_PSNR if qualities.is_even else 0.0
    quality = _lowest_reaching(psnr_at, (qualities.lowest, qualities.highest), decibels, near)
    return RatedFile(search.at(quality), quality, psnr_at(quality))


def _too_large(codec: Codec, num_bytes: int, smallest: bytes) -> TargetError:
    return TargetError(
        f"the smallest file that {codec.name} makes of this picture has {len(smallest)} bytes; "
        f"{num_bytes} asked for: allow more"
    )


def _psnr(decoded: Pixels, pixels: Pixels) -> float:
    error = 0.0
    for a, b in zip(decoded, pixels, strict=True):  # row by row: no copy of a large picture
        error += float(((a.astype(np.int32) - b) ** 2).sum())
    return math.inf if error == 0 else 10 * math.log10(255**2 * pixels.size / error)


def _lowest_reaching(
    value: Callable[[int], float], bounds: tuple[int, int], target: float, near: float
) -> int:
    """Return the lowest integer whose value reaches a target; values (nearly) grow.

    Args:
        value: of an integer within the bounds; the upper one reaches the target.
        bounds: inclusive.
        target: what to reach.
        near: a value so little above the target ends the search; then interpolation looks for it.
    """
    low, high = bounds
    below, above = value(low), value(high)
    if below >= target:
        return low
    tries = 0
    while high - low > 1 and above - target > near:
        middle = (low + high) // 2
        if near and tries < _INTERPOLATIONS and math.isfinite(above):
            # a little above the line, so that it reaches rather than misses
            share = (min(target + near / 2, above) - below) / (above - below)
            middle = min(max(low + math.ceil(share * (high - low)), low + 1), high - 1)
        tries += 1
        reached = value(middle)
        if reached >= target:
            high, above = middle, reached
        else:
            low, below = middle, reached
    return high


__all__ = ["RatedFile", "compress_to_bytes", "compress_to_psnr"]
