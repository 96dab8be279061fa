"""The report of a bench as one HTML file that needs nothing but itself."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from tessella.eval.codec_bench.bench import CodecBench
from tessella.eval.codec_bench.comparing import DeltaRow, overlap_text, plotted
from tessella.eval.codec_bench.equal_bytes import EqualBytesCrop
from tessella.eval.measures import measure
from tessella.eval.report.bars import Bars, bars_html
from tessella.eval.report.colors import SubjectColors
from tessella.eval.report.parts import Fact, Section, write_page
from tessella.eval.report.quality import measured_section, rate_section, summary_section
from tessella.eval.report.slider import PictureStore, Slide, slider_html
from tessella.eval.report.table import Cell, Column, Table, table_html
from tessella.eval.results import Results
from tessella.eval.summary import set_rows

_SHOWN = ("psnr", "ms_ssim", "ssimulacra2")


def write_bench_page(
    bench: CodecBench,
    crops: Sequence[EqualBytesCrop],
    path: str | Path,
    *,
    title: str = "Codecs side by side",
) -> None:
    """Write a bench as HTML: curves, deltas, means, crops and times. Whole or not at all.

    Args:
        bench: what was found.
        crops: of :func:`tessella.eval.codec_bench.equal_bytes.equal_bytes_crops`.
        path: of the file.
        title: of the page.
    """
    results = bench.results
    store = PictureStore()
    sections = [
        rate_section(results, SubjectColors(results.subjects)),
        _delta_section(bench.deltas, bench.anchor),
        _crop_section(crops, store),
        summary_section(results),
        _time_section(results, bench.jobs),
        _memory_section(bench.memory),
        measured_section(results),
    ]
    codecs = dict.fromkeys(subject.codec for subject in results.subjects)
    facts = [
        Fact(f"{len(codecs):,}", "codecs"),
        Fact(f"{len(results.subjects):,}", "points"),
        Fact(f"{sum(info.count for info in results.sets):,}", "pictures"),
        Fact(f"{len(results.pictures):,}", "files"),
    ]
    write_page(
        path,
        title,
        f"{', '.join(codecs)} on {', '.join(info.name for info in results.sets)}",
        facts,
        [section for section in sections if section is not None],
        missing=results.missing,
        pictures=store,
    )


def _delta_section(rows: Sequence[DeltaRow], anchor: str) -> Section | None:
    parts = []
    for dataset in dict.fromkeys(row.dataset for row in rows):
        ours = [row for row in rows if row.dataset == dataset]
        parts.append(table_html(_delta_table(ours, f"{dataset}, against {ours[0].anchor}")))
    text = (
        f"BD-rate: how much more rate than {anchor} at equal quality, in the mean over the "
        "qualities that both reach; negative saves rate. BD: how much more quality at equal rate. "
        "Beside each is the share of both ranges that the mean is over; with less than 0.75, "
        "marked by an exclamation mark, it says little. MS-SSIM in dB is -10 log10(1 - mean)."
    )
    return Section("deltas", "Bjontegaard deltas", parts, text) if parts else None


def _delta_table(rows: Sequence[DeltaRow], caption: str) -> Table:
    metrics = list(dict.fromkeys(row.metric for row in rows))
    columns = [Column("codec", is_number=False)]
    for metric in metrics:
        what = plotted(metric)
        columns += [
            Column(f"BD-rate {what.title}, %", "lower"),
            Column("overlap"),
            Column(f"BD {what.axis}", "higher"),
            Column("overlap"),
        ]
    lines = []
    for codec in dict.fromkeys(row.codec for row in rows):
        cells = [Cell(codec)]
        for metric in metrics:
            row = next((r for r in rows if (r.codec, r.metric) == (codec, metric)), None)
            cells += _delta_cells(row)
        lines.append(cells)
    return Table(columns, lines, caption)


def _delta_cells(row: DeltaRow | None) -> list[Cell]:
    if row is None:
        return [Cell("–")] * 4
    return [
        Cell("–" if row.rate is None else f"{row.rate:+.1f}", row.rate, row.note),
        Cell(overlap_text(row.rate_overlap), row.rate_overlap),
        Cell("–" if row.gain is None else f"{row.gain:+.2f}", row.gain, row.note),
        Cell(overlap_text(row.gain_overlap), row.gain_overlap),
    ]


def _crop_section(crops: Sequence[EqualBytesCrop], store: PictureStore) -> Section | None:
    if not crops:
        return None
    slides = []
    for crop in crops:
        off = 100 * (crop.num_bytes / crop.target - 1)
        scores = [
            f"{measure(name).title} {measure(name).text(crop.scores[name])}"
            for name in _SHOWN
            if crop.scores.get(name) is not None
        ]
        size = f"{crop.num_bytes:,} bytes ({off:+.0f} %), {measure('bpp').text(crop.bpp)} bpp"
        slides.append(
            Slide(
                title=crop.picture,
                label=crop.codec if crop.quality is None else f"{crop.codec}:{crop.quality}",
                original=store.add(crop.original, crop.media_type),
                reconstruction=store.add(crop.reconstruction, crop.media_type),
                facts=", ".join([size, *scores]),
                tag=f"{crop.picture}, near {crop.target:,} bytes",
            )
        )
    text = (
        "For some pictures, the file of each codec that is nearest to a common size, and the part "
        "of the picture with the most detail, without further loss. Bytes and scores are those of "
        "the whole picture; the per cent say how far the file is from the common size."
    )
    return Section("equal-bytes", "Side by side at equal bytes", [slider_html(slides)], text)


def _time_section(results: Results, jobs: int) -> Section:
    """Return seconds per megapixel, a codec each: the mean of its points."""
    codecs = {subject.label: subject.codec for subject in results.subjects}
    parts = []
    for info in results.sets:
        times: dict[str, list[tuple[float, float]]] = {}
        for row in set_rows(results, info):
            pair = row.values["encode"] or 0.0, row.values["decode"] or 0.0
            times.setdefault(codecs[row.subject], []).append(pair)
        groups = [
            (codec, tuple(statistics.fmean(part) for part in zip(*pairs, strict=True)))
            for codec, pairs in times.items()
        ]
        parts.append(bars_html(Bars(info.name, ("encode", "decode"), groups, "s/MP")))
    shared = f"{jobs} processes shared the cores, so times are too long." if jobs > 1 else ""
    text = (
        "Seconds per million pixels, the mean of a codec's points, files written and read in "
        "memory. Classical codecs use one thread, tokenizers as many as torch does; work that the "
        f"points of a codec share counts in each. {shared}"
    )
    return Section("time", "Time", parts, text.strip())


def _memory_section(memory: Mapping[str, int]) -> Section | None:
    if not memory:
        return None
    groups = [(codec, (peak / 1e6,)) for codec, peak in memory.items()]
    text = (
        "How far a fresh process grew while it loaded the codec, compressed the largest picture at "
        "the highest quality and decompressed it: resident memory, without the interpreter, torch "
        "and the pixels that were given."
    )
    return Section("memory", "Peak memory", [bars_html(Bars("", ("peak",), groups, "MB"))], text)


__all__ = ["write_bench_page"]
