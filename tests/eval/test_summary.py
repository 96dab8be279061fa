"""Means, tables and curves of an evaluation, against sums done by hand and by other libraries."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_example import (
    FACES,
    OTHER_READER,
    PHOTOGRAPHS,
    READER,
    RECEIPTS,
    SIGNS,
    example_results,
)

from tessella.errors import ConfigError
from tessella.eval.curves import bucket_rows, face_curves, rate_curves, word_curves
from tessella.eval.measures import measure
from tessella.eval.results import (
    ORIGINAL,
    FaceRecord,
    Figure,
    PictureRecord,
    Results,
    SetInfo,
    Subject,
    WordRecord,
)
from tessella.eval.summary import summary_rows, text_table, write_csv

A, B = Subject("jpeg:5", "jpeg", 5, ""), Subject("jpeg:9", "jpeg", 9, "")


def _results(kind: str = "images", canvas: int = 0, **records: object) -> Results:
    info = SetInfo("set", kind, 2, "0" * 64, canvas, "reader 1")  # type: ignore[arg-type]
    return Results((A, B), (info,), {}, {}, **records)  # type: ignore[arg-type]


def _picture(name: str, num_bytes: int, psnr: float, lpips: float | None) -> PictureRecord:
    scores = {"psnr": psnr, "lpips": lpips}
    return PictureRecord("jpeg:5", "set", name, 100, 50, num_bytes, 0.25, 0.5, scores)


def _word(subject: str, picture: str, text: str, read: str, height: float) -> WordRecord:
    return WordRecord(subject, "set", picture, text, read, height, height / 1000)


def test_means_of_pictures() -> None:
    pictures = (_picture("a", 1000, 30.0, None), _picture("b", 500, math.inf, 0.2))
    (row,) = summary_rows(_results(pictures=pictures))
    assert (row.subject, row.dataset, row.pictures, row.words) == ("jpeg:5", "set", 2, 0)
    assert row.values == pytest.approx(
        # identical pictures count 100 dB; 0.75 s for 10,000 pixels
        {"bpp": 1.2, "bytes": 750, "psnr": 65, "lpips": 0.2, "encode": 50, "decode": 100}
    )


def test_a_metric_that_no_picture_has_is_none() -> None:
    (row,) = summary_rows(_results(pictures=(_picture("a", 10, 30.0, None),)))
    assert row.values["lpips"] is None
    assert "ssim" not in row.values


def test_only_words_that_all_subjects_have_count() -> None:
    words = (
        _word(ORIGINAL, "p", "north", "north", 10),
        _word(ORIGINAL, "p", "north", "nort", 10),  # a second word that looks the same
        _word(ORIGINAL, "p", "south", "south", 30),
        _word("jpeg:5", "p", "north", "North", 10),
        _word("jpeg:5", "p", "north", "north", 10),
        _word("jpeg:5", "p", "south", "s", 30),
        _word("jpeg:9", "p", "north", "north", 10),
        _word("jpeg:9", "p", "north", "", 10),
    )
    results = _results("text", words=words)
    first, second, originals = summary_rows(results)
    assert [row.words for row in (first, second, originals)] == [2, 2, 2]
    assert first.values["t_acc"] == 0.5
    assert first.values["t_ned"] == pytest.approx((0.8 + 1) / 2)
    assert first.values["t_acc_original"] == originals.values["t_acc"] == 0.5
    assert second.values["t_ned_original"] == pytest.approx((1 + 0.8) / 2)
    curves = word_curves(results)
    assert [curve.subject for curve in curves] == [ORIGINAL, "jpeg:5", "jpeg:9"]
    assert [(b.title, b.count) for b in curves[0].bins] == [("8–12", 2)]


def test_bins_of_words_hold_all_of_them() -> None:
    heights = [3.0, 8.0, 11.9, 12.0, 63.9, 64.0, 500.0]
    words = tuple(
        _word(label, f"{i}", "ab", "ab" if i % 2 else "a", height)
        for label in (ORIGINAL, "jpeg:5")
        for i, height in enumerate(heights)
    )
    curve = word_curves(_results("text", words=words))[1]
    found = [(b.title, b.count, b.values["t_acc"], b.values["t_ned"]) for b in curve.bins]
    assert found == [
        ("<8", 1, 0.0, 0.5),
        ("8–12", 2, 0.5, 0.75),
        ("12–16", 1, 1.0, 1.0),
        ("48–64", 1, 0.0, 0.5),
        ("64+", 2, 0.5, 0.75),
    ]


def test_faces_by_side_against_numpy() -> None:
    results = example_results()
    faces = [f for f in results.faces if f.subject == "jpeg:20"]
    sides, values = (np.array([getattr(f, name) for f in faces]) for name in ("side", "similarity"))
    (curve,) = [c for c in face_curves(results) if c.subject == "jpeg:20"]
    assert sum(b.count for b in curve.bins) == len(faces)
    for size in curve.bins:
        inside = (sides >= size.low) & (sides < size.high)
        assert size.values["f_sim"] == pytest.approx(values[inside].mean())
    (row,) = [r for r in summary_rows(results) if (r.subject, r.dataset) == ("jpeg:20", FACES)]
    assert row.values["f_sim"] == pytest.approx(values.mean())


def test_buckets_of_a_canvas() -> None:
    ratios = (0.005, 0.01, 0.02, 0.029, 0.03, 0.5)  # the first is below all buckets of 512
    words = tuple(
        WordRecord("jpeg:5", "set", f"{i}", "ab", "ab" if i != 2 else "a", 20, ratio)
        for i, ratio in enumerate(ratios)
    )
    accuracy, similarity = bucket_rows(_results("text", 512, words=words))
    assert (accuracy.metric, accuracy.canvas, accuracy.counts) == ("t_acc", 512, (1, 2, 2))
    assert accuracy.means == (1.0, 0.5, 1.0)
    assert accuracy.mean == pytest.approx(2.5 / 3)
    assert similarity.means == (1.0, 0.75, 1.0)
    assert bucket_rows(_results("text", 0, words=words)) == []
    assert bucket_rows(_results("text", 300, words=words)) == []
    face = FaceRecord("jpeg:5", "set", "a", 30, 0.06, 0.5)
    (row,) = bucket_rows(_results("faces", 512, faces=(face,)))
    assert (row.counts, row.means, row.mean) == ((1, 0, 0), (0.5, None, None), None)


def test_rate_curves_rise_and_keep_unlike_settings_apart() -> None:
    results = example_results()
    curves = [c for c in rate_curves(results) if (c.dataset, c.metric) == (PHOTOGRAPHS, "psnr")]
    assert [curve.name for curve in curves] == [
        "jpeg",
        "webp",
        "avif",
        "progressive-gq-f8",
        "one-d-piece-256",
        "jpeg, matched bytes",
    ]
    assert [point.quality for point in curves[0].points] == [5, 10, 20, 50]
    for curve in curves:
        rates = [point.bpp for point in curve.points]
        assert rates == sorted(rates)
    assert not [c for c in rate_curves(results) if c.metric == "rFID"]  # it has no values
    first, *others = results.subjects
    other = replace(results, subjects=(replace(first, settings="4:4:4"), *others))
    names = {c.name for c in rate_curves(other)}
    assert {"jpeg (4:4:4)", "jpeg (4:2:0)", "jpeg, matched bytes", "avif"} <= names


def test_unlike_engines_never_share_a_table() -> None:
    results = example_results()
    blocks = text_table(results).split("\n\n")
    for name, engine, other in (
        (SIGNS, READER, OTHER_READER),
        (RECEIPTS, OTHER_READER, READER),
    ):
        (block,) = [block for block in blocks if block.startswith(f"{name}:")]
        assert engine in block
        assert other not in block
        assert "T-ACC" in block
        assert "original" in block
    engines = {(row.dataset, row.engine) for row in summary_rows(results)}
    assert len(engines) == len(results.sets)


def test_figures_of_unlike_protocols_are_refused() -> None:
    figures = tuple(
        Figure(subject.label, "set", "KID", 0.1, {"name": name, "count": count})
        for subject, name, count in ((A, "x", 10), (B, "y", 20))
    )
    with pytest.raises(ConfigError, match=r"KID on set of unlike protocols given \(count\)"):
        summary_rows(_results(figures=figures))
    alike = (figures[0], replace(figures[1], protocol={"name": "z", "count": 10}))
    assert [row.values for row in summary_rows(_results(figures=alike))] == [{"KID": 0.1}] * 2


def test_text_table_lines_up_and_says_what_is_missing() -> None:
    text = text_table(example_results())
    lines = text.split("\n\n")[0].splitlines()
    assert lines[0] == f"{PHOTOGRAPHS}: 6 pictures"
    assert lines[1].split()[:4] == ["subject", "bpp", "bytes", "PSNR"]
    assert len(lines) == 2 + len(example_results().subjects)
    assert len({len(line) for line in lines[1:]}) == 1
    assert "not measured: FID: weights-inception" in text


def test_csv_holds_the_rows(tmp_path: Path) -> None:
    results = example_results()
    path = tmp_path / "a.csv"
    write_csv(results, path)
    with path.open(newline="", encoding="utf-8") as stream:
        found = list(csv.DictReader(stream))
    rows = summary_rows(results)
    assert len(found) == len(rows)
    for line, row in zip(found, rows, strict=True):
        assert (line["subject"], line["dataset"]) == (row.subject, row.dataset)
        for name, value in row.values.items():
            assert line[name] == ("" if value is None else str(value))
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_measures_are_found_whatever_their_case() -> None:
    assert measure("rFID") == measure("rfid")
    assert measure("MS-SSIM").better == "higher"
    assert measure("something new").better == ""
    assert measure("bytes").text(12345.6) == "12,346"
    assert measure("psnr").text(None) == "-"
    assert measure("encode").text(0.012345) == "0.0123"
