"""Curves of an evaluation: quality against rate, words and faces against their size.

Sizes are pixels of the original. Only words and faces that every subject of a set has are counted,
so that the curves of one set are of the same ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tessella.eval.results import ORIGINAL, Results, Subject
from tessella.eval.summary import SummaryRow, common, face_scores, set_rows, similarity, word_scores
from tessella.eval.tokbench.buckets import EDGES, bucket_means
from tessella.eval.tokbench.text import is_equal

HEIGHTS = (0.0, 8.0, 12.0, 16.0, 20.0, 24.0, 32.0, 48.0, 64.0, math.inf)
SIDES = (0.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0, math.inf)
_NO_RATES = ("bpp", "bytes", "encode", "decode")


@dataclass(frozen=True, slots=True)
class RatePoint:
    """One subject on a curve.

    Args:
        subject: its label.
        quality: of the codec; None where it has none.
        bpp: mean bits per pixel.
        value: of the metric.
    """

    subject: str
    quality: int | None
    bpp: float
    value: float


@dataclass(frozen=True, slots=True)
class RateCurve:
    """A metric of one codec against its rate.

    Args:
        dataset: name of the set.
        metric: its name.
        codec: name of the codec.
        name: of the curve: the codec, with what tells its curves apart.
        points: by rising rate.
    """

    dataset: str
    metric: str
    codec: str
    name: str
    points: tuple[RatePoint, ...]


@dataclass(frozen=True, slots=True)
class SizeBin:
    """Words or faces of one size.

    Args:
        low: smallest size, in pixels.
        high: where the next bin begins; infinite for the last.
        count: of words or faces.
        values: means by metric: ``t_acc``, ``t_acc_loose`` and ``t_ned``, or ``f_sim``.
    """

    low: float
    high: float
    count: int
    values: dict[str, float]

    @property
    def title(self) -> str:
        """The sizes, such as ``8–12`` or ``64+``."""
        if math.isinf(self.high):
            return f"{self.low:g}+"
        return f"{self.low:g}–{self.high:g}" if self.low else f"<{self.high:g}"


@dataclass(frozen=True, slots=True)
class SizeCurve:
    """Scores of one subject by size.

    Args:
        dataset: name of the set.
        engine: that read the words or embedded the faces.
        subject: label; ``original`` for untouched pictures.
        bins: those that are not empty, by rising size; the same for all subjects of a set.
    """

    dataset: str
    engine: str
    subject: str
    bins: tuple[SizeBin, ...]


@dataclass(frozen=True, slots=True)
class BucketRow:
    """Scores in TokBench's buckets.

    Args:
        dataset: name of the set.
        engine: that read the words or embedded the faces.
        canvas: side of the square.
        subject: label.
        metric: ``t_acc``, ``t_ned`` or ``f_sim``.
        counts: instances in the small, medium and large bucket.
        means: of their scores; None for an empty bucket.
        mean: of the three; None if one is empty.
    """

    dataset: str
    engine: str
    canvas: int
    subject: str
    metric: str
    counts: tuple[int, ...]
    means: tuple[float | None, ...]
    mean: float | None


def word_curves(results: Results) -> list[SizeCurve]:
    """Return accuracy and similarity of words by character height, originals first."""
    found = []
    for info in results.sets:
        words = common(word for word in results.words if word.dataset == info.name)
        for label in _order(results, words):
            bins = [
                SizeBin(low, high, len(rows), word_scores(rows))
                for low, high in itertools.pairwise(HEIGHTS)
                if (rows := [word for word in words[label] if low <= word.height < high])
            ]
            found.append(SizeCurve(info.name, info.engine, label, tuple(bins)))
    return found


def face_curves(results: Results) -> list[SizeCurve]:
    """Return similarity of faces by their side, originals first where they were embedded."""
    found = []
    for info in results.sets:
        faces = common(face for face in results.faces if face.dataset == info.name)
        for label in _order(results, faces):
            bins = [
                SizeBin(low, high, len(rows), face_scores(rows))
                for low, high in itertools.pairwise(SIDES)
                if (rows := [face for face in faces[label] if low <= face.side < high])
            ]
            found.append(SizeCurve(info.name, info.engine, label, tuple(bins)))
    return found


def bucket_rows(results: Results) -> list[BucketRow]:
    """Return TokBench's scores by size, for sets with a canvas that it has buckets for."""
    found = []
    for info in results.sets:
        setting = f"image/{info.canvas}"
        if setting not in EDGES["text"]:
            continue
        words = common(word for word in results.words if word.dataset == info.name)
        faces = common(face for face in results.faces if face.dataset == info.name)
        columns: list[tuple[str, str, list[float], list[float]]] = []
        for label in _order(results, words):
            ratios = [word.ratio for word in words[label]]
            pairs = [(word.text, word.read) for word in words[label]]
            columns.append((label, "t_acc", ratios, [float(is_equal(*pair)) for pair in pairs]))
            columns.append((label, "t_ned", ratios, [similarity(*pair) for pair in pairs]))
        for label in _order(results, faces):
            ratios = [face.ratio for face in faces[label]]
            columns.append((label, "f_sim", ratios, [face.similarity for face in faces[label]]))
        for label, metric, ratios, scores in columns:
            edges = EDGES["face" if metric == "f_sim" else "text"][setting]
            result = bucket_means(ratios, scores, edges)
            means = tuple(_finite(value) for value in result.means)
            row = (info.name, info.engine, info.canvas, label, metric, result.counts, means)
            found.append(BucketRow(*row, _finite(result.mean)))
    return found


def rate_curves(results: Results) -> list[RateCurve]:
    """Return every metric against bits per pixel: a curve a set, metric and codec.

    A codec has several curves if it was run with several settings; subjects that meet the bytes of
    another subject form a curve of their own.
    """
    names = _curve_names(results.subjects)
    found = []
    for info in results.sets:
        rows = {row.subject: row for row in set_rows(results, info)}
        values = (name for row in rows.values() for name in row.values)
        metrics = [
            name
            for name in dict.fromkeys(values)
            if name not in _NO_RATES and not name.endswith("_original")
        ]
        for metric, name in itertools.product(metrics, dict.fromkeys(names.values())):
            subjects = [s for s in results.subjects if names[s.label] == name and s.label in rows]
            points = _rate_points(subjects, rows, metric)
            if points:
                found.append(RateCurve(info.name, metric, subjects[0].codec, name, points))
    return found


def _rate_points(
    subjects: Sequence[Subject], rows: dict[str, SummaryRow], metric: str
) -> tuple[RatePoint, ...]:
    points = []
    for subject in subjects:
        rate = rows[subject.label].values.get("bpp")
        value = rows[subject.label].values.get(metric)
        if rate is not None and value is not None:
            points.append(RatePoint(subject.label, subject.quality, rate, value))
    return tuple(sorted(points, key=lambda point: point.bpp))


def _curve_names(subjects: Sequence[Subject]) -> dict[str, str]:
    """Return the name of each subject's curve: no longer than what tells it from others."""
    names = {}
    for subject in subjects:
        peers = [other for other in subjects if other.codec == subject.codec]
        name = subject.codec
        if len({bool(other.matched) for other in peers}) > 1 and subject.matched:
            name += ", matched bytes"
        if len({other.settings for other in peers if _alike(other, subject)}) > 1:
            name += f" ({subject.settings})"
        names[subject.label] = name
    return names


def _alike(first: Subject, second: Subject) -> bool:
    return bool(first.matched) == bool(second.matched)


def _order(results: Results, labels: Collection[str]) -> list[str]:
    return [label for label in [ORIGINAL, *(s.label for s in results.subjects)] if label in labels]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


__all__ = [
    "HEIGHTS",
    "SIDES",
    "BucketRow",
    "RateCurve",
    "RatePoint",
    "SizeBin",
    "SizeCurve",
    "bucket_rows",
    "face_curves",
    "rate_curves",
    "word_curves",
]
