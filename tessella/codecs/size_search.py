"""The quality that meets a number of bytes, for any codec.

Files grow with quality, but only nearly: a step up may save a few bytes. So bisection finds where
the limit is crossed, and the next few qualities above are tried as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from tessella.codecs.base import Codec, Qualities
from tessella.images import Picture, Pixels

_LOOK_AHEAD = 3  # qualities above the crossing


@dataclass(frozen=True, slots=True)
class SizedFile:
    """A file and the size that it was to meet.

    Args:
        data: the file.
        quality: its quality.
        limit: how many bytes were allowed.
    """

    data: bytes
    quality: int
    limit: int

    @property
    def fits(self) -> bool:
        """Whether the file is within the limit; if not, it is the smallest that was found."""
        return len(self.data) <= self.limit


class SizeSearch:
    """Compresses one picture to given sizes; what was tried once is kept.

    Args:
        codec: compresses.
        picture: a path, the bytes of a file, a binary stream, a PIL image, or uint8 ``(H, W, 3)``.

    Raises:
        PictureError: if the picture cannot be read or is larger than the format allows.
        MissingDependencyError: if a library of the codec is not installed.
    """

    def __init__(self, codec: Codec, picture: Picture | Pixels) -> None:
        self._prepared = codec.prepare(picture)
        self._files: dict[int, bytes] = {}

    @property
    def qualities(self) -> Qualities:
        """Those of this picture."""
        return self._prepared.qualities

    def at(self, quality: int) -> bytes:
        """Return the file of a quality.

        Raises:
            ConfigError: if there is no such quality.
        """
        if quality not in self._files:
            self._files[quality] = self._prepared.compress(quality)
        return self._files[quality]

    def at_most(self, num_bytes: int) -> SizedFile:
        """Return the file of the highest quality that fits into ``num_bytes``.

        Where none fits, the smallest file is returned: :attr:`SizedFile.fits` says so. Ask it
        before you call sizes equal.
        """
        low, high = self._prepared.qualities.lowest, self._prepared.qualities.highest
        highest = high
        while low < high:  # quality ``low`` fits, or is the lowest there is
            middle = (low + high + 1) // 2
            if len(self.at(middle)) <= num_bytes:
                low = middle
            else:
                high = middle - 1
        for quality in range(min(low + _LOOK_AHEAD, highest), low - 1, -1):
            if len(self.at(quality)) <= num_bytes:
                return SizedFile(self.at(quality), quality, num_bytes)
        smallest = min(self._files, key=lambda quality: (len(self._files[quality]), -quality))
        return SizedFile(self._files[smallest], smallest, num_bytes)


def compress_within(codec: Codec, picture: Picture | Pixels, num_bytes: int) -> SizedFile:
    """Compress a picture to the highest quality that fits; see :meth:`SizeSearch.at_most`.

    Example:
        >>> import numpy as np
        >>> from tessella.codecs.classical import Jpeg
        >>> found = compress_within(Jpeg(), np.zeros((16, 16, 3), np.uint8), 300)
        >>> found.fits, len(found.data) <= 300
        (True, True)

    Raises:
        PictureError: if the picture cannot be read or is larger than the format allows.
        MissingDependencyError: if a library of the codec is not installed.
    """
    return SizeSearch(codec, picture).at_most(num_bytes)


__all__ = ["SizeSearch", "SizedFile", "compress_within"]
