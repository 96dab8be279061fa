"""Codecs side by side at equal bytes: crops of the files nearest to a common size."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tessella.eval.evaluation.worker import Setup, Task, Worker
from tessella.eval.results import PictureRecord, Results
from tessella.images import Pixels

_FAR = math.log(2)  # files twice too large or small all count alike
_STEP = 16  # between the places where a crop may begin
_MEDIA_TYPE = "image/webp"


@dataclass(frozen=True, slots=True)
class EqualBytesCrop:
    """Part of a reconstruction beside the original's.

    Args:
        dataset: name of the set.
        picture: its file in the set.
        codec: what made it.
        quality: of the codec.
        num_bytes: of the whole picture's file.
        target: the number of bytes that all codecs were to be near.
        bpp: of the whole picture.
        scores: of the whole picture, by metric.
        original: an encoded picture without loss.
        reconstruction: the same.
        media_type: of both.
    """

    dataset: str
    picture: str
    codec: str
    quality: int | None
    num_bytes: int
    target: int
    bpp: float
    scores: Mapping[str, float | None]
    original: bytes
    reconstruction: bytes
    media_type: str


def equal_bytes_crops(
    setup: Setup, results: Results, *, count: int = 3, side: int = 320
) -> list[EqualBytesCrop]:
    """Decode files of nearly equal size again, for some pictures of each set.

    Args:
        setup: whose pieces are still there.
        results: of the same bench.
        count: pictures of each set, evenly spread.
        side: of the crop: the square with the most detail in the original.
    """
    worker = Worker(setup)
    chosen: list[tuple[Task, int, PictureRecord, int]] = []
    places = {
        subject.label: (c, i)
        for c, contender in enumerate(setup.contenders)
        for i, subject in enumerate(contender.all_subjects)
    }
    for s, dataset in enumerate(setup.sets):
        total = len(dataset.pictures)
        for p in sorted({i * total // max(count, 1) for i in range(count)}):
            name = dataset.pictures[p].name
            target, records = nearest_files(results, dataset.info.name, name)
            for record in records:
                contender, index = places[record.subject]
                chosen.append((Task(contender, s, p), index, record, target))
    found = [_crop(worker, results, *part, side) for part in sorted(chosen, key=_by_contender)]
    pictures = list(dict.fromkeys((crop.dataset, crop.picture) for crop in found))
    return sorted(found, key=lambda crop: pictures.index((crop.dataset, crop.picture)))


def _by_contender(part: tuple[Task, int, PictureRecord, int]) -> int:
    return part[0].contender or 0  # each model is loaded once


def nearest_files(results: Results, dataset: str, picture: str) -> tuple[int, list[PictureRecord]]:
    """Return a number of bytes, and the record of each codec whose file is nearest to it.

    The number is the size of one of the files, not above their median, to which the codecs come
    nearest together: the sum of their distances on a logarithmic scale is the smallest.
    """
    codecs = {subject.label: subject.codec for subject in results.subjects}
    groups: dict[str, list[PictureRecord]] = {}
    for record in results.pictures:
        if (record.dataset, record.picture) == (dataset, picture):
            groups.setdefault(codecs[record.subject], []).append(record)
    sizes = sorted(record.num_bytes for records in groups.values() for record in records)
    targets = sizes[: (len(sizes) + 1) // 2]

    def cost(target: int) -> float:
        return sum(
            min(_FAR, *(_distance(record, target) for record in records))
            for records in groups.values()
        )

    target = min(targets, key=cost)
    return target, [
        min(records, key=lambda record: _distance(record, target)) for records in groups.values()
    ]


def _distance(record: PictureRecord, target: int) -> float:
    return abs(math.log(record.num_bytes / target))


def _crop(
    worker: Worker,
    results: Results,
    task: Task,
    index: int,
    record: PictureRecord,
    target: int,
    side: int,
) -> EqualBytesCrop:
    assert task.contender is not None  # noqa: S101  # for the type checker
    original = worker.cropped(worker.setup.sets[task.dataset].pictures[task.picture].read())
    data = worker.journal.file(worker.setup.key(task), index)
    back = worker.coder(task.contender).decode(index, data)
    top, left = most_detailed(original, side)
    part = np.s_[top : top + side, left : left + side]
    subject = next(s for s in results.subjects if s.label == record.subject)
    return EqualBytesCrop(
        record.dataset,
        record.picture,
        subject.codec,
        subject.quality,
        record.num_bytes,
        target,
        record.bpp,
        record.scores,
        _encoded(original[part]),
        _encoded(back[part]),
        _MEDIA_TYPE,
    )


def most_detailed(pixels: Pixels, side: int) -> tuple[int, int]:
    """Return top and left of the square in which neighbouring pixels differ the most.

    Args:
        pixels: uint8 ``(H, W, 3)``.
        side: of the square; a picture that is smaller is taken whole.
    """
    grey = pixels.astype(np.float64).mean(axis=2)
    change = np.abs(np.diff(grey, axis=0, append=grey[-1:]))
    change += np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    sums = np.pad(change.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    height, width = grey.shape
    tops, lefts = (range(0, max(length - side, 0) + 1, _STEP) for length in (height, width))

    def detail(place: tuple[int, int]) -> float:
        top, left = place
        bottom, right = min(top + side, height), min(left + side, width)
        whole = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
        return float(whole)

    places: Sequence[tuple[int, int]] = [(top, left) for top in tops for left in lefts]
    return max(places, key=detail)


def _encoded(pixels: Pixels) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.save(stream, "WEBP", lossless=True, exact=True, method=4)
    return stream.getvalue()


__all__ = ["EqualBytesCrop", "equal_bytes_crops", "most_detailed", "nearest_files"]
