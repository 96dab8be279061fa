"""The worst and best reconstructions of each subject, ready for a report."""

from __future__ import annotations

import io
from typing import Literal

from PIL import Image

from tessella.eval.evaluation.worker import Setup, Task, Worker
from tessella.eval.report.shown import ShownPicture
from tessella.eval.results import PictureRecord, Results
from tessella.images import Pixels

_METRIC = "psnr"
_QUALITY = 90  # of the JPEG files in a report, 4:4:4
_MEDIA_TYPE = "image/jpeg"


def shown_pictures(
    setup: Setup, results: Results, *, each: int = 2, max_side: int = 768
) -> list[ShownPicture]:
    """Decode the pictures with the lowest and the highest PSNR again, from their files.

    Args:
        setup: whose pieces are still there.
        results: of the same evaluation.
        each: pictures at either end, a subject and set.
        max_side: larger pictures are cut to the central part of this many pixels.
    """
    worker = Worker(setup)
    found = []
    for c, contender in enumerate(setup.contenders):
        for s, dataset in enumerate(setup.sets):
            if dataset.info.kind != "images":
                continue
            places = {picture.name: p for p, picture in enumerate(dataset.pictures)}
            for i, subject in enumerate(contender.all_subjects):
                for record, why in _chosen(results, subject.label, dataset.info.name, each):
                    key = setup.key(Task(c, s, places[record.picture]))
                    back = worker.coder(c).decode(i, worker.journal.file(key, i))
                    original = worker.cropped(dataset.pictures[places[record.picture]].read())
                    pair = _encoded(original, max_side), _encoded(back, max_side)
                    found.append(_shown(record, why, *pair))
    return found


def _chosen(
    results: Results, subject: str, dataset: str, each: int
) -> list[tuple[PictureRecord, Literal["worst", "best"]]]:
    records = [
        record
        for record in results.pictures
        if (record.subject, record.dataset) == (subject, dataset)
        and record.scores.get(_METRIC) is not None
    ]
    records.sort(key=lambda record: (record.scores[_METRIC] or 0.0, record.picture))
    half = min(each, len(records) // 2) if len(records) > 1 else len(records)
    worst: list[tuple[PictureRecord, Literal["worst", "best"]]] = [
        (record, "worst") for record in records[:half]
    ]
    return worst + [(record, "best") for record in records[len(records) - half :][::-1]]


def _shown(
    record: PictureRecord, why: Literal["worst", "best"], original: bytes, back: bytes
) -> ShownPicture:
    return ShownPicture(
        record.dataset,
        record.picture,
        record.subject,
        why,
        _METRIC,
        record.scores[_METRIC] or 0.0,
        record.num_bytes,
        original,
        back,
        _MEDIA_TYPE,
    )


def _encoded(pixels: Pixels, max_side: int) -> bytes:
    height, width = pixels.shape[:2]
    top, left = max(0, (height - max_side) // 2), max(0, (width - max_side) // 2)
    part = pixels[top : top + max_side, left : left + max_side]
    stream = io.BytesIO()
    Image.fromarray(part).save(stream, "JPEG", quality=_QUALITY, subsampling=0, optimize=True)
    return stream.getvalue()


__all__ = ["shown_pictures"]
