"""Bjontegaard deltas of all codecs of a bench against one, with how far their curves overlap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tessella.errors import ConfigError
from tessella.eval.bd import GOOD_OVERLAP, Delta, Points, bd_metric, bd_rate
from tessella.eval.curves import RateCurve, rate_curves
from tessella.eval.measures import Measure, measure
from tessella.eval.piecewise import Method
from tessella.eval.results import Results

_DECIBELS = "ms_ssim"


@dataclass(frozen=True, slots=True)
class DeltaRow:
    """One codec against the anchor in one metric on one set.

    Args:
        dataset: name of the set.
        metric: its name.
        codec: name of the codec's curve.
        anchor: name of the anchor's curve.
        rate: BD-rate in per cent, negative if the codec saves rate; None if there is none.
        rate_overlap: share of the qualities of both that it was taken over.
        gain: BD-metric in units of the metric (MS-SSIM in dB), positive if the codec is better.
        gain_overlap: share of the log rates of both that it was taken over.
        note: why a value is missing, or what to mind.
    """

    dataset: str
    metric: str
    codec: str
    anchor: str
    rate: float | None
    rate_overlap: float
    gain: float | None
    gain_overlap: float
    note: str


def delta_rows(results: Results, anchor: str, method: Method = "pchip") -> list[DeltaRow]:
    """Compare every codec with one, by means over pictures at each of its qualities.

    Args:
        results: of a bench.
        anchor: name of a codec.
        method: see :func:`tessella.eval.bd.bd_rate`.

    Returns:
        A row a set, codec but the anchor, and metric that has a direction.
    """
    found = []
    curves = [curve for curve in rate_curves(results) if measure(curve.metric).better]
    for curve in curves:
        peers = [other for other in curves if _key(other) == _key(curve)]
        base = next((other for other in peers if other.codec == anchor), None)
        if base is not None and base is not curve:
            found.append(_row(base, curve, method))
    order = {name: i for i, name in enumerate(dict.fromkeys(row.codec for row in found))}
    names = [info.name for info in results.sets]
    return sorted(found, key=lambda row: (names.index(row.dataset), order[row.codec]))


def _key(curve: RateCurve) -> tuple[str, str]:
    return curve.dataset, curve.metric


def _row(base: RateCurve, curve: RateCurve, method: Method) -> DeltaRow:
    pair = points_of(base), points_of(curve)
    better = measure(curve.metric).better
    notes: list[str] = []

    def take(delta: Callable[..., Delta], common: str) -> Delta:
        try:
            found = delta(*pair, better=better, method=method, warn_below=0.0)
        except ConfigError as error:
            notes.append(str(error))
            return Delta(math.nan, 0.0)
        if math.isnan(found.value):
            notes.append(f"no {common} in common")
        return found

    rate, gain = take(bd_rate, "qualities"), take(bd_metric, "rates")
    return DeltaRow(
        curve.dataset,
        curve.metric,
        curve.name,
        base.name,
        None if math.isnan(rate.value) else rate.value,
        rate.overlap,
        None if math.isnan(gain.value) else gain.value,
        gain.overlap,
        "; ".join(dict.fromkeys(notes)),
    )


def points_of(curve: RateCurve) -> Points:
    """Return (rate, quality); MS-SSIM as -10 log10(1 - mean) dB, infinite for equal pictures."""
    if curve.metric != _DECIBELS:
        return [(point.bpp, point.value) for point in curve.points]
    return [
        (point.bpp, -10 * math.log10(1 - point.value) if point.value < 1 else math.inf)
        for point in curve.points
    ]


def plotted(metric: str) -> Measure:
    """Return how the values of :func:`points_of` are called and written."""
    return Measure("MS-SSIM", "higher", 2, "dB") if metric == _DECIBELS else measure(metric)


def delta_text(rows: Sequence[DeltaRow]) -> str:
    """Return deltas as text for a terminal, one table a set; "!" marks little overlap."""
    blocks = []
    for dataset in dict.fromkeys(row.dataset for row in rows):
        ours = [row for row in rows if row.dataset == dataset]
        lines = [["codec", "metric", "BD-rate %", "overlap", "BD-metric", "overlap"]]
        for row in ours:
            title = plotted(row.metric).axis
            rate = "-" if row.rate is None else f"{row.rate:+.2f}"
            gain = "-" if row.gain is None else f"{row.gain:+.3f}"
            shares = [overlap_text(share) for share in (row.rate_overlap, row.gain_overlap)]
            lines.append([row.codec, title, rate, shares[0], gain, shares[1], row.note])
        widths = [max(len(line[i]) for line in lines) for i in range(6)]
        head = f"{dataset}: Bjontegaard deltas against {ours[0].anchor}"
        blocks.append("\n".join([head, *(_line(line, widths) for line in lines)]))
    return "\n\n".join(blocks)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    text = [
        cell.ljust(width) if i < 2 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=False))
    ]
    return "  ".join([*text, *cells[len(widths) :]]).rstrip()


def overlap_text(share: float) -> str:
    """Write a share, marked where a delta says little."""
    return f"{share:.2f}{'' if share >= GOOD_OVERLAP else '!'}"


__all__ = ["DeltaRow", "delta_rows", "delta_text", "overlap_text", "plotted", "points_of"]
