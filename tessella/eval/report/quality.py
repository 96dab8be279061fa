"""Sections of quality: what was measured, the summary, curves against rate and size."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tessella.eval.curves import (
    RateCurve,
    SizeCurve,
    bucket_rows,
    face_curves,
    rate_curves,
    word_curves,
)
from tessella.eval.measures import measure
from tessella.eval.report.charts import Chart, Panel, Point, chart_html
from tessella.eval.report.colors import SubjectColors
from tessella.eval.report.parts import Section, folded_html, render
from tessella.eval.report.table import Cell, Column, Table, metric_table, table_html
from tessella.eval.results import ORIGINAL, Results, SetInfo
from tessella.eval.summary import column_names, set_rows
from tessella.eval.tokbench.text_normalisation import described

if TYPE_CHECKING:
    from markupsafe import Markup

_TEXT = ("t_acc", "t_acc_loose", "t_ned")
_FRACTIONS = (*_TEXT, "f_sim")
_BUCKETS = ("small", "medium", "large")


def measured_section(results: Results) -> Section:
    """Return what was measured, on what, with what."""
    parts = [table_html(_subject_table(results)), table_html(_set_table(results))]
    lists = [("Protocol of distances", _pairs(results.protocol))]
    lists.append(("Library versions", _pairs(results.versions)))
    kept = [(title, pairs) for title, pairs in lists if pairs]
    parts.append(render("lists.html.j2", lists=kept))
    title = "What was measured: subjects and settings, sets, protocol, versions"
    return Section("measured", title, parts, is_folded=True)


def _subject_table(results: Results) -> Table:
    names = ("subject", "codec", "quality", "settings", "meets the bytes of")
    rows = [
        [
            Cell(subject.label),
            Cell(subject.codec),
            Cell("–" if subject.quality is None else str(subject.quality), subject.quality),
            Cell(subject.settings or "–"),
            Cell(subject.matched or "–"),
        ]
        for subject in results.subjects
    ]
    return Table([Column(name, is_number=name == "quality") for name in names], rows, "Subjects")


def _set_table(results: Results) -> Table:
    names = ("set", "kind", "pictures", "canvas", "engine", "SHA-256")
    rows = [
        [
            Cell(info.name),
            Cell(info.kind),
            Cell(f"{info.count:,}", info.count),
            Cell(str(info.canvas) if info.canvas else "own size", info.canvas or None),
            Cell(info.engine or "–"),
            Cell(info.digest[:12], hint=info.digest),
        ]
        for info in results.sets
    ]
    numbers = ("pictures", "canvas")
    return Table([Column(name, is_number=name in numbers) for name in names], rows, "Sets")


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        found.append((name, text))
    return found


def summary_section(results: Results) -> Section:
    """Return a table a set: other pictures or another engine never share one."""
    parts = []
    for info in results.sets:
        rows = set_rows(results, info)
        names = column_names(rows)
        reasons = [figure for figure in results.figures if figure.dataset == info.name]
        table = metric_table(
            [(row.subject, row.values) for row in rows if row.subject != ORIGINAL],
            names=names,
            caption=_set_title(info),
            foot=[("untouched originals", r.values) for r in rows if r.subject == ORIGINAL],
            notes={(f.subject, f.metric): f.note for f in reasons},
        )
        parts.append(table_html(table))
        notes = sorted({f"{f.metric}: {f.note}" for f in reasons if f.note})
        parts += [render("note.html.j2", text=note) for note in notes]
        counts = {row.pictures for row in rows if row.subject != ORIGINAL and row.pictures}
        if len(counts) > 1:
            unequal = ", ".join(f"{row.subject} {row.pictures}" for row in rows if row.pictures)
            parts.append(render("note.html.j2", text=f"Unequal numbers of pictures: {unequal}."))
    text = (
        "Means over the pictures of a set. Arrows say which direction is better; the best value of "
        "a column is marked. Click a header to sort."
    )
    return Section("summary", "Summary", parts, text)


def _set_title(info: SetInfo) -> str:
    canvas = f" on a canvas of {info.canvas}" if info.canvas else ""
    engine = f", engine {info.engine_title}" if info.engine else ""
    return f"{info.name}: {info.count:,} pictures{canvas}{engine}"


def rate_section(results: Results, colors: SubjectColors) -> Section | None:
    """Return quality against rate, a chart a set; None without rates."""
    curves = rate_curves(results)
    parts = []
    for info in results.sets:
        ours = [curve for curve in curves if curve.dataset == info.name]
        panels = [
            _rate_panel([curve for curve in ours if curve.metric == metric], colors)
            for metric in dict.fromkeys(curve.metric for curve in ours)
        ]
        if panels:
            title = measure("bpp").unit
            parts.append(chart_html(Chart(_set_title(info), title, panels, x_scale="log")))
    text = (
        "Each point is one codec at one quality, which is written beside it. Classical codecs are "
        "grey and dashed. The rate axis is logarithmic."
    )
    return Section("rate", "Quality against rate", parts, text) if parts else None


def _rate_panel(curves: list[RateCurve], colors: SubjectColors) -> Panel:
    """Return one metric; a codec's further curves are paler."""
    series = []
    for curve in curves:
        peers = [other.name for other in curves if other.codec == curve.codec]
        points = [
            Point(p.bpp, p.value, "" if p.quality is None else str(p.quality), p.subject)
            for p in curve.points
            if p.bpp > 0
        ]
        place = {"rank": peers.index(curve.name), "count": len(peers)}
        series.append(colors.of_codec(curve.codec, curve.name, points, **place))
    what = measure(curves[0].metric)
    return Panel(what.title, what.axis, series, what.better, what.digits)


def size_section(results: Results, colors: SubjectColors) -> Section | None:
    """Return scores of words and faces by size; None without words and faces."""
    words, faces = word_curves(results), face_curves(results)
    parts: list[Markup] = []
    for info in results.sets:
        found = [
            (words, _TEXT, "character height in pixels", "words", "Read by"),
            (faces, ("f_sim",), "side of the face in pixels", "faces", "Embedded by"),
        ]
        for curves, metrics, x_label, what, verb in found:
            ours = [curve for curve in curves if curve.dataset == info.name and curve.bins]
            if ours:
                loose = f" Loose: {described('loose')}." if what == "words" else ""
                caption = (
                    f"{verb} {info.engine_title or 'an unnamed engine'}. "
                    + _bound(ours, what)
                    + loose
                )
                chart = _size_chart(_set_title(info), ours, metrics, x_label, colors, caption)
                parts.append(chart_html(chart))
    buckets = [table_html(table) for table in _bucket_tables(results)]
    if buckets:
        parts.append(folded_html("TokBench's buckets of size", buckets))
    text = (
        "Only words and faces that every subject of a set has. The number below a size is how many "
        "there are of it."
    )
    return Section("size", "Text and faces by size", parts, text) if parts else None


def _bound(curves: list[SizeCurve], what: str) -> str:
    count = f"{sum(b.count for b in curves[0].bins):,} {what}."
    if any(curve.subject == ORIGINAL for curve in curves):
        return f"{count} The dotted line is what the engine makes of the untouched originals."
    return f"{count} A face compared with itself scores 1."


def _size_chart(
    title: str,
    curves: list[SizeCurve],
    metrics: tuple[str, ...],
    x_label: str,
    colors: SubjectColors,
    caption: str,
) -> Chart:
    panels = []
    for metric in metrics:
        what = measure(metric)
        series = [
            colors.of_subject(
                curve.subject,
                [Point(i, b.values[metric], "", f"{b.count:,}") for i, b in enumerate(curve.bins)],
            )
            for curve in curves
        ]
        panels.append(Panel(what.title, what.axis, series, what.better, 3, y_range=(0.0, 1.0)))
    categories = [(b.title, f"{b.count:,}") for b in curves[0].bins]
    return Chart(title, x_label, panels, caption, categories=categories)


def _bucket_tables(results: Results) -> list[Table]:
    """Return TokBench's buckets, a table a set and metric."""
    rows = bucket_rows(results)
    found = []
    for info, metric in itertools.product(results.sets, _FRACTIONS):
        ours = [row for row in rows if row.dataset == info.name and row.metric == metric]
        if not ours:
            continue
        titles = [
            f"{name} ({count:,})" for name, count in zip(_BUCKETS, ours[0].counts, strict=True)
        ]
        columns = [Column("subject", is_number=False)]
        columns += [Column(title, "higher") for title in (*titles, "mean of three")]
        what = measure(metric)
        lines = {
            row.subject: [
                Cell(row.subject),
                *(Cell(what.text(value, "–"), value) for value in (*row.means, row.mean)),
            ]
            for row in ours
        }
        original = lines.pop(ORIGINAL, None)
        caption = f"{what.title} in TokBench's buckets, {_set_title(info)}"
        found.append(Table(columns, list(lines.values()), caption, [original] if original else []))
    return found


__all__ = ["measured_section", "rate_section", "size_section", "summary_section"]
