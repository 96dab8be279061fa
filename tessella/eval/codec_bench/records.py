"""Files of a bench: a record a picture and point (JSON), means of points and deltas (CSV)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from tessella.eval.codec_bench.comparing import DeltaRow
from tessella.eval.results import PictureRecord, Results
from tessella.eval.summary import set_rows
from tessella.images import atomic_file

_RESAMPLES = 1000
_SEED = 0


@dataclass(frozen=True, slots=True)
class RatePointRow:
    """Means of one codec at one quality on one set.

    Args:
        codec: its name.
        quality: one of its qualities.
        dataset: name of the set.
        pictures: how many the means are of.
        pooled_bpp: bits of all files over pixels of all pictures; the mean of pictures' rates is
            ``values["bpp"]``, and both are the same where sizes are.
        values: means by metric; ``encode`` and ``decode`` are seconds per million pixels.
        intervals: of 95 %, by bootstrap over pictures.
    """

    codec: str
    quality: int | None
    dataset: str
    pictures: int
    pooled_bpp: float
    values: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float]]


def bench_records(results: Results) -> list[dict[str, Any]]:
    """Return one record a picture and point, as plain values."""
    subjects = {subject.label: subject for subject in results.subjects}
    return [
        {
            "codec": subjects[record.subject].codec,
            "quality": subjects[record.subject].quality,
            "dataset": record.dataset,
            "image": record.picture,
            "width": record.width,
            "height": record.height,
            "bytes": record.num_bytes,
            "bpp": record.bpp,
            **record.scores,
            "encode_seconds": record.encode_seconds,
            "decode_seconds": record.decode_seconds,
            "settings": subjects[record.subject].settings,
        }
        for record in results.pictures
    ]


def rate_point_rows(results: Results) -> list[RatePointRow]:
    """Return the means of all points, in the order of sets and subjects."""
    subjects = {subject.label: subject for subject in results.subjects}
    found = []
    for info in results.sets:
        for row in set_rows(results, info):
            subject = subjects[row.subject]
            records = [
                r for r in results.pictures if (r.subject, r.dataset) == (row.subject, info.name)
            ]
            bits = sum(8 * r.num_bytes for r in records)
            found.append(
                RatePointRow(
                    subject.codec,
                    subject.quality,
                    info.name,
                    row.pictures,
                    bits / sum(r.width * r.height for r in records),
                    row.values,
                    _intervals(records),
                )
            )
    return found


def _intervals(records: Sequence[PictureRecord]) -> dict[str, tuple[float, float]]:
    """Resample pictures, the same ones for every metric and codec."""
    rng = np.random.default_rng(_SEED)
    drawn = rng.integers(len(records), size=(_RESAMPLES, len(records)))
    columns: dict[str, list[float | None]] = {"bpp": [record.bpp for record in records]}
    for name in dict.fromkeys(name for record in records for name in record.scores):
        columns[name] = [record.scores.get(name) for record in records]
    found = {}
    for name, values in columns.items():
        if None not in values:
            means = np.array(values, dtype=np.float64)[drawn].mean(axis=1)
            low, high = np.quantile(means, (0.025, 0.975))
            found[name] = float(low), float(high)
    return found


def write_records(results: Results, path: str | Path) -> None:
    """Write :func:`bench_records` as a JSON list, whole or not at all."""
    text = json.dumps(bench_records(results), indent=1, ensure_ascii=False, allow_nan=False)
    _write(path, text + "\n")


def write_points(
    results: Results, path: str | Path, *, memory: Mapping[str, int] | None = None
) -> None:
    """Write :func:`rate_point_rows` as CSV.

    Args:
        results: of a bench.
        path: of the file. Intervals are the columns ``_low`` and ``_high``.
        memory: peak bytes by codec, the column ``memory_bytes``.
    """
    rows = rate_point_rows(results)
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    bounds = list(dict.fromkeys(name for row in rows for name in row.intervals))
    head = ["codec", "quality", "dataset", "pictures", "pooled_bpp", "memory_bytes", *names]
    lines: list[list[object]] = [
        [*head, *(f"{n}_{end}" for n in bounds for end in ("low", "high"))]
    ]
    for row in rows:
        values = [row.values.get(name) for name in names]
        ends = [end for name in bounds for end in row.intervals.get(name, (None, None))]
        peak = (memory or {}).get(row.codec)
        start = [row.codec, row.quality, row.dataset, row.pictures, row.pooled_bpp, peak]
        lines.append([*start, *values, *ends])
    _write(path, _csv(lines))


def write_deltas(rows: Sequence[DeltaRow], path: str | Path) -> None:
    """Write Bjontegaard deltas as CSV."""
    lines: list[list[object]] = [[field.name for field in fields(DeltaRow)]]
    lines += [list(asdict(row).values()) for row in rows]
    _write(path, _csv(lines))


def _csv(lines: Sequence[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(lines)
    return text.getvalue()


def _write(path: str | Path, text: str) -> None:
    with atomic_file(Path(path)) as stream:
        stream.write(text.encode("utf-8"))


__all__ = [
    "RatePointRow",
    "bench_records",
    "rate_point_rows",
    "write_deltas",
    "write_points",
    "write_records",
]
