"""Means of an evaluation: a row a subject and data set, as text and as CSV.

Only what is measured alike stands in one table: every set has its own, since another set has other
pictures and may have another engine. Words and faces count if every subject of the set has them.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, TypeVar

from tessella.errors import ConfigError
from tessella.eval.measures import measure
from tessella.eval.psnr import CAP
from tessella.eval.results import (
    ORIGINAL,
    FaceRecord,
    Figure,
    PictureRecord,
    Results,
    SetInfo,
    WordRecord,
)
from tessella.eval.tokbench.text import is_equal, text_similarity
from tessella.eval.tokbench.text_normalisation import normalised
from tessella.images import atomic_file

SCORES = ("psnr", "ssim", "ms_ssim", "lpips", "dists")


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """Means of one subject on one set.

    Args:
        subject: label; ``original`` for readings of untouched pictures.
        dataset: name of the set.
        engine: that read its words or embedded its faces; empty for none.
        pictures: how many reconstructions the means are of.
        words: how many words that every subject of the set has.
        faces: how many faces that every subject of the set has.
        values: by metric, in the order of tables; None for what could not be measured. Times
            (``encode``, ``decode``) are seconds per million pixels.
    """

    subject: str
    dataset: str
    engine: str
    pictures: int
    words: int
    faces: int
    values: Mapping[str, float | None]


class _Record(Protocol):
    """Anything of a subject."""

    @property
    def subject(self) -> str: ...


class _Instance(_Record, Protocol):
    """A word or a face."""

    @property
    def picture(self) -> str: ...


_R = TypeVar("_R", bound=_Record)
_T = TypeVar("_T", bound=_Instance)


def summary_rows(results: Results) -> list[SummaryRow]:
    """Return a row each subject and set that it was measured on.

    Args:
        results: of an evaluation.

    Returns:
        In the order of sets, then of subjects; the originals of a set, where they were read, come
        last.

    Raises:
        ConfigError: if figures of one set and metric are of unlike protocols.
    """
    return [row for info in results.sets for row in set_rows(results, info)]


def set_rows(results: Results, info: SetInfo) -> list[SummaryRow]:
    """Return the rows of one set; see :func:`summary_rows`."""
    pictures = by_subject(r for r in results.pictures if r.dataset == info.name)
    words = common(r for r in results.words if r.dataset == info.name)
    faces = common(r for r in results.faces if r.dataset == info.name)
    figures = _figures(results, info.name)
    rows = []
    for label in [*(s.label for s in results.subjects), ORIGINAL]:
        shown = [found.get(label, []) for found in (pictures, words, faces, figures)]
        if not any(shown):
            continue
        values = {
            **_picture_means(pictures.get(label, [])),
            **{figure.metric: figure.value for figure in figures.get(label, [])},
            **word_scores(words.get(label, [])),
            **face_scores(faces.get(label, [])),
            **_times(pictures.get(label, [])),
        }
        if words and label != ORIGINAL:
            originals = word_scores(words.get(ORIGINAL, []))
            values |= {f"{name}_original": value for name, value in originals.items()}
        row = SummaryRow(
            subject=label,
            dataset=info.name,
            engine=info.engine,
            pictures=len(pictures.get(label, [])),
            words=len(words.get(label, [])),
            faces=len(faces.get(label, [])),
            values=values,
        )
        rows.append(row)
    return rows


def by_subject(records: Iterable[_R]) -> dict[str, list[_R]]:
    """Group records by the label of their subject."""
    found: dict[str, list[_R]] = defaultdict(list)
    for record in records:
        found[record.subject].append(record)
    return dict(found)


def common(records: Iterable[_T]) -> dict[str, list[_T]]:
    """Group words or faces of one set by subject, those that every subject has, in one order."""
    found = {label: _keyed(rows) for label, rows in by_subject(records).items()}
    shared = [set(rows) for rows in found.values()]
    keys = sorted(set.intersection(*shared)) if shared else []
    return {label: [rows[key] for key in keys] for label, rows in found.items()}


def _keyed(records: Sequence[_T]) -> dict[tuple[str, str, float, int], _T]:
    """Tell equal words of one picture apart by their order."""
    seen: Counter[tuple[str, str, float]] = Counter()
    found = {}
    for record in records:
        text, size = _identity(record)
        key = (record.picture, text, size)
        place = (record.picture, text, size, seen[key])
        found[place] = record
        seen[key] += 1
    return found


def _identity(record: _Instance) -> tuple[str, float]:
    if isinstance(record, WordRecord):
        return record.text, record.height
    return ("", record.side) if isinstance(record, FaceRecord) else ("", 0.0)


@lru_cache(maxsize=1 << 16)
def similarity(text: str, read: str) -> float:
    """Return how alike a word and its reading are; evaluations ask for the same pairs often."""
    return text_similarity(text, read)


def word_scores(words: Sequence[WordRecord]) -> dict[str, float]:
    """Return T-ACC, T-ACC with case and spaces ignored, and T-NED; empty for no words."""
    if not words:
        return {}
    return {
        "t_acc": statistics.fmean(is_equal(word.text, word.read) for word in words),
        "t_acc_loose": statistics.fmean(
            is_equal(normalised(word.text, "loose"), normalised(word.read, "loose"))
            for word in words
        ),
        "t_ned": statistics.fmean(similarity(word.text, word.read) for word in words),
    }


def face_scores(faces: Sequence[FaceRecord]) -> dict[str, float]:
    """Return F-Sim, the mean over faces; empty for no faces."""
    return {"f_sim": statistics.fmean(face.similarity for face in faces)} if faces else {}


def _picture_means(records: Sequence[PictureRecord]) -> dict[str, float | None]:
    if not records:
        return {}
    means: dict[str, float | None] = {
        "bpp": statistics.fmean(record.bpp for record in records),
        "bytes": statistics.fmean(record.num_bytes for record in records),
    }
    names = dict.fromkeys([*SCORES, *(name for record in records for name in record.scores)])
    for name in names:
        limit = CAP if name == "psnr" else math.inf  # identical pictures count 100 dB
        found = [s for record in records if (s := record.scores.get(name)) is not None]
        if any(name in record.scores for record in records):
            means[name] = statistics.fmean(min(s, limit) for s in found) if found else None
    return means


def _times(records: Sequence[PictureRecord]) -> dict[str, float]:
    megapixels = sum(record.width * record.height for record in records) / 1e6
    if not megapixels:
        return {}
    return {
        "encode": sum(record.encode_seconds for record in records) / megapixels,
        "decode": sum(record.decode_seconds for record in records) / megapixels,
    }


def _figures(results: Results, dataset: str) -> dict[str, list[Figure]]:
    """Group the figures of a set by subject, after checking that they compare."""
    figures = [figure for figure in results.figures if figure.dataset == dataset]
    protocols: dict[str, Mapping[str, object]] = {}
    for figure in figures:
        if figure.value is None:
            continue
        ours = {key: value for key, value in figure.protocol.items() if key != "name"}
        first = protocols.setdefault(figure.metric, ours)
        if first != ours:
            names = [key for key in {**first, **ours} if first.get(key) != ours.get(key)]
            raise ConfigError(
                f"{figure.metric} on {dataset} of unlike protocols given ({', '.join(names)}); "
                "expected one protocol: measure all subjects in the same way"
            )
    return by_subject(figures)


def column_names(rows: Sequence[SummaryRow]) -> list[str]:
    """Return the metrics that any of the rows has, without those of the originals."""
    names = dict.fromkeys(name for row in rows for name in row.values)
    times = ("encode", "decode")
    kept = [name for name in names if not name.endswith("_original") and name not in times]
    return [*kept, *(name for name in times if name in names)]


def missing_groups(results: Results) -> dict[str, str]:
    """Return what could not be measured and why; metrics that lack the same thing together."""
    names: dict[str, list[str]] = {}
    for name, why in results.missing.items():
        names.setdefault(why, []).append(measure(name).title)
    return {", ".join(group): why for why, group in names.items()}


def text_table(results: Results) -> str:
    """Return the summary as text for a terminal, one table a set."""
    blocks = []
    for info in results.sets:
        rows = set_rows(results, info)
        engine = f", judged by {info.engine_title}" if info.engine else ""
        head = f"{info.name}: {info.count} pictures{engine}"
        blocks.append("\n".join([head, *_lines(rows)]))
    missing = [f"not measured: {names}: {why}" for names, why in missing_groups(results).items()]
    return "\n\n".join([*blocks, *(["\n".join(missing)] if missing else [])])


def _lines(rows: Sequence[SummaryRow]) -> list[str]:
    names = column_names(rows)
    cells = [["subject", *(measure(name).title for name in names)]]
    for row in rows:
        values = [measure(name).text(row.values.get(name)) for name in names]
        cells.append([row.subject, *values])
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]


def write_csv(results: Results, path: str | Path) -> None:
    """Write the summary rows as CSV, whole or not at all; empty cells for what is missing."""
    rows = summary_rows(results)
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["subject", "dataset", "engine", "pictures", "words", "faces", *names])
    for row in rows:
        head = [row.subject, row.dataset, row.engine, row.pictures, row.words, row.faces]
        writer.writerow([*head, *(row.values.get(name) for name in names)])
    with atomic_file(Path(path)) as stream:
        stream.write(text.getvalue().encode("utf-8"))


__all__ = [
    "SCORES",
    "SummaryRow",
    "by_subject",
    "column_names",
    "common",
    "face_scores",
    "missing_groups",
    "set_rows",
    "similarity",
    "summary_rows",
    "text_table",
    "word_scores",
    "write_csv",
]
