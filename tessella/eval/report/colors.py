"""Colours of subjects: a hue a codec through the whole page, greys for classical codecs."""

from __future__ import annotations

from collections.abc import Sequence

from tessella.codecs.classical import classical_codecs
from tessella.eval.report.charts import Point, Series
from tessella.eval.results import ORIGINAL, Subject

_PALEST = 0.45
_PALEST_GREY = 0.65  # grey has little contrast to lose


class SubjectColors:
    """Makes series of subjects and codecs.

    Args:
        subjects: of the page, in order.
    """

    def __init__(self, subjects: Sequence[Subject]) -> None:
        classical = set(classical_codecs())
        self._codecs = {subject.label: subject.codec for subject in subjects}
        codecs = list(dict.fromkeys(self._codecs.values()))
        self._references = [codec for codec in codecs if codec in classical]
        self._others = [codec for codec in codecs if codec not in classical]

    def of_codec(
        self, codec: str, name: str, points: Sequence[Point], *, rank: int = 0, count: int = 1
    ) -> Series:
        """Return a series of a codec, the first of ``count`` in its full hue, later ones paler."""
        palest = _PALEST_GREY if codec in self._references else _PALEST
        shade = 1 - (1 - palest) * rank / max(count - 1, 1)
        if codec in self._references:
            return Series(name, points, self._references.index(codec), shade, "reference")
        return Series(name, points, self._others.index(codec), shade)

    def of_subject(self, label: str, points: Sequence[Point]) -> Series:
        """Return the series of a subject, in full hue for the last one of its codec."""
        if label == ORIGINAL:
            return Series(label, points, role="bound")
        codec = self._codecs[label]
        peers = [peer for peer, its in self._codecs.items() if its == codec]
        rank = len(peers) - 1 - peers.index(label)
        return self.of_codec(codec, label, points, rank=rank, count=len(peers))

    def codec_of(self, label: str) -> str:
        """Return the codec of a subject."""
        return self._codecs[label]


__all__ = ["SubjectColors"]
