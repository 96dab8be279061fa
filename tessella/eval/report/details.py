"""Sections of details: pictures that stand out, use of codebooks, time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tessella.eval.measures import measure
from tessella.eval.report.bars import Bars, bars_html
from tessella.eval.report.charts import Chart, Panel, Point, Series, chart_html
from tessella.eval.report.colors import SubjectColors
from tessella.eval.report.parts import Section, folded_html
from tessella.eval.report.shown import ShownPicture
from tessella.eval.report.slider import PictureStore, Slide, slider_html
from tessella.eval.report.table import Cell, Column, Table, table_html
from tessella.eval.results import Results, TokenRecord
from tessella.eval.summary import set_rows

if TYPE_CHECKING:
    from markupsafe import Markup


def picture_section(shown: Sequence[ShownPicture], store: PictureStore) -> Section | None:
    """Return the worst and best pictures; None without any."""
    if not shown:
        return None
    slides = []
    for picture in shown:
        what = measure(picture.metric)
        slides.append(
            Slide(
                title=picture.picture,
                label=picture.subject,
                original=store.add(picture.original, picture.media_type),
                reconstruction=store.add(picture.reconstruction, picture.media_type),
                facts=f"{what.title} {what.text(picture.value)}, {picture.num_bytes:,} bytes",
                tag=f"{picture.why} {what.title}",
                group=picture.dataset,
            )
        )
    text = (
        "Drag the divider, or move it with the arrow keys. The difference is the absolute one, "
        "eight times amplified."
    )
    return Section("pictures", "Worst and best pictures", [slider_html(slides)], text)


def token_section(results: Results, colors: SubjectColors) -> Section | None:
    """Return rank-frequency plots and statistics of codebooks, a set each; None without tokens."""
    parts: list[Markup] = []
    for info in results.sets:
        records = [record for record in results.tokens if record.dataset == info.name]
        if not records:
            continue
        series = [_token_series(record, records, colors) for record in records]
        panel = Panel("share", "share of all tokens", series, y_scale="log")
        title = f"Codes by frequency on {info.name}"
        parts.append(chart_html(Chart(title, "rank of the code", [panel], x_scale="log")))
        parts.append(table_html(_token_table(records)))
    text = (
        "How often the codes of a codebook are used, the most frequent first. Both axes are "
        "logarithmic: a straight line is a power law, a flat one an even use."
    )
    return Section("tokens", "Use of codebooks", parts, text) if parts else None


def _token_series(
    record: TokenRecord, records: Sequence[TokenRecord], colors: SubjectColors
) -> Series:
    codec = colors.codec_of(record.subject)
    peers = [other for other in records if colors.codec_of(other.subject) == codec]
    pairs = zip(record.ranks, record.shares, strict=True)
    points = [Point(rank, share) for rank, share in pairs if share > 0]
    place = {"rank": peers.index(record), "count": len(peers)}
    series = colors.of_codec(codec, _token_name(record), points, **place)
    return replace(series, has_markers=False)


def _token_name(record: TokenRecord) -> str:
    return f"{record.subject}, {record.part}" if record.part else record.subject


def _token_table(records: Sequence[TokenRecord]) -> Table:
    names = list(dict.fromkeys(name for record in records for name in record.statistics))
    columns = [Column("codebook", is_number=False), Column("codes")]
    columns += [Column(measure(name).title, measure(name).better) for name in names]
    rows = []
    for record in records:
        values = [record.statistics.get(name) for name in names]
        rows.append(
            [
                Cell(_token_name(record)),
                Cell(f"{record.vocab_size:,}", record.vocab_size),
                *(Cell(measure(n).text(v, "–"), v) for n, v in zip(names, values, strict=True)),
            ]
        )
    return Table(columns, rows)


def time_section(results: Results) -> Section | None:
    """Return seconds per megapixel of both directions, a set each; None without pictures."""
    parts = []
    for info in results.sets:
        groups = [
            (row.subject, (row.values["encode"], row.values["decode"]))
            for row in set_rows(results, info)
            if "encode" in row.values
        ]
        if groups:
            parts.append(bars_html(Bars(info.name, ("encode", "decode"), groups, "s/MP")))
    if len(parts) > 2:  # times differ little between sets
        parts = [parts[0], folded_html("Other sets", parts[1:])]
    text = (
        "Seconds per million pixels, files written and read in memory. Work that several qualities "
        "of one codec share counts in each of them."
    )
    return Section("time", "Time", parts, text) if parts else None


__all__ = ["picture_section", "time_section", "token_section"]
