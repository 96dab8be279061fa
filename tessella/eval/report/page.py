"""The report of an evaluation as one HTML file that needs nothing but itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tessella.eval.report.colors import SubjectColors
from tessella.eval.report.details import picture_section, time_section, token_section
from tessella.eval.report.parts import Fact, write_page
from tessella.eval.report.quality import (
    measured_section,
    rate_section,
    size_section,
    summary_section,
)
from tessella.eval.report.shown import ShownPicture
from tessella.eval.report.slider import PictureStore
from tessella.eval.results import FaceRecord, Results, WordRecord
from tessella.eval.summary import missing_groups


def write_report(
    results: Results,
    shown: Sequence[ShownPicture],
    path: str | Path,
    *,
    title: str = "Evaluation",
) -> None:
    """Write an evaluation as HTML: tables, curves, pictures. Whole or not at all.

    Args:
        results: of the evaluation.
        shown: reconstructions to show beside their originals; an original that comes several
            times is embedded once.
        path: of the file.
        title: of the page.

    Raises:
        ConfigError: if figures of one set and metric are of unlike protocols, or a picture's media
            type is none that browsers show.
    """
    colors, store = SubjectColors(results.subjects), PictureStore()
    sections = [
        measured_section(results),
        summary_section(results),
        rate_section(results, colors),
        size_section(results, colors),
        picture_section(shown, store),
        token_section(results, colors),
        time_section(results),
    ]
    names = ", ".join(info.name for info in results.sets)
    codecs = ", ".join(dict.fromkeys(subject.codec for subject in results.subjects))
    write_page(
        path,
        title,
        f"{codecs} on {names}",
        _facts(results),
        [section for section in sections if section is not None],
        missing=missing_groups(results),
        pictures=store,
    )


def _facts(results: Results) -> list[Fact]:
    counts = [
        (len({subject.codec for subject in results.subjects}), "codecs"),
        (len(results.subjects), "subjects"),
        (len(results.sets), "sets"),
        (sum(info.count for info in results.sets), "pictures"),
        (_instances(results.words), "words"),
        (_instances(results.faces), "faces"),
    ]
    return [Fact(f"{count:,}", name) for count, name in counts if count]


def _instances(records: Sequence[WordRecord] | Sequence[FaceRecord]) -> int:
    """Return how many words or faces there are, whatever the number of subjects."""
    counts = Counter((record.dataset, record.subject) for record in records)
    return sum(
        max(count for (name, _), count in counts.items() if name == dataset)
        for dataset in {name for name, _ in counts}
    )


__all__ = ["write_report"]
