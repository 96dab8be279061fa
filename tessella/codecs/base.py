"""The interface of every codec, learned or classical: pictures to bytes and back.

::

    picture --compress, at a quality--> bytes (a whole file) --decompress--> uint8 (H, W, 3)

What ``quality`` means is the codec's own affair: :class:`Qualities` says it. More is always better
and larger, or nearly always; to meet a given size see :mod:`tessella.codecs.size_search`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from tessella.errors import ConfigError, MissingDependencyError
from tessella.images import DEFAULT_MAX_PIXELS, Picture, Pixels


@dataclass(frozen=True, slots=True)
class Qualities:
    """The integers that a codec takes for its quality.

    Args:
        lowest: the smallest file.
        highest: the most faithful one.
        default: what is taken where none is given.
        meaning: what the number says, in words.
        is_even: whether bytes grow evenly with it, so that interpolation finds a size quickly.
    """

    lowest: int
    highest: int
    default: int
    meaning: str
    is_even: bool = False

    def __contains__(self, quality: int) -> bool:
        return self.lowest <= quality <= self.highest


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture that is ready to be compressed at several qualities.

    Args:
        compress: returns the file of a quality; None for the default.
        qualities: those of this picture. (Small pictures have fewer levels in some tokenizers.)
    """

    compress: Callable[[int | None], bytes]
    qualities: Qualities


class Codec(ABC):
    """Turns pictures into bytes and back."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What :func:`tessella.codecs.named.codec_named` takes."""

    @property
    def title(self) -> str:
        """The name as captions and tables write it."""
        return self.name

    @property
    @abstractmethod
    def settings(self) -> str:
        """All that decides the bytes beside quality: libraries, their versions, options."""

    @property
    @abstractmethod
    def qualities(self) -> Qualities:
        """The qualities of pictures that are not tiny."""

    @property
    def is_lossless(self) -> bool:
        """Whether the picture comes back as it was at every quality."""
        return False

    @abstractmethod
    def prepare(self, picture: Picture | Pixels) -> Prepared:
        """Do once what all qualities of a picture share.

        Args:
            picture: a path, the bytes of a file, a binary stream, a PIL image, or uint8
                ``(H, W, 3)``.

        Raises:
            PictureError: if the picture cannot be read or is larger than the format allows.
            MissingDependencyError: see :meth:`check_installed`.
        """

    def compress(self, picture: Picture | Pixels, quality: int | None = None) -> bytes:
        """Return the file of a picture.

        Args:
            picture: see :meth:`prepare`.
            quality: one of :attr:`qualities`; None for the default.

        Raises:
            PictureError: if the picture cannot be read or is larger than the format allows.
            ConfigError: if there is no such quality.
            MissingDependencyError: see :meth:`check_installed`.
        """
        return self.prepare(picture).compress(quality)

    @abstractmethod
    def decompress(self, data: bytes, *, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Pixels:
        """Return the picture of a file of this codec, uint8 ``(H, W, 3)``.

        Args:
            data: the whole file.
            max_pixels: refuse larger pictures before their pixels are decoded; None for any size.

        Raises:
            PictureError: if a file of a picture format is damaged, too large, or another format.
            TokenFileError: the same of a token file.
        """

    @property
    def missing(self) -> str:
        """What must be installed first, in a sentence; empty if everything is here."""
        return ""

    def check_installed(self) -> None:
        """Check that the libraries of the codec are here.

        Raises:
            MissingDependencyError: if one is missing; the message says what to install.
        """
        if self.missing:
            raise MissingDependencyError(self.missing)

    def check_quality(self, quality: int | None) -> int:
        """Return a quality, the default for None.

        Raises:
            ConfigError: if the codec has no such quality.
        """
        qualities = self.qualities
        if quality is None:
            return qualities.default
        if quality not in qualities:
            raise ConfigError(
                f"{self.name} has no quality {quality}; expected {qualities.lowest} to "
                f"{qualities.highest}: {qualities.meaning}"
            )
        return quality


__all__ = ["Codec", "Prepared", "Qualities"]
