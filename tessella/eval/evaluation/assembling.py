"""From finished pieces to results: records of pictures, words and faces, figures of sets."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from tessella.codecs.named import codec_named
from tessella.codecs.tokenizer_codec import TokenizerCodec
from tessella.eval.evaluation.contenders import RESIZE
from tessella.eval.evaluation.distances import set_figures
from tessella.eval.evaluation.journal import Journal
from tessella.eval.evaluation.sets import EvalPicture, EvalSet
from tessella.eval.evaluation.token_use import use_of
from tessella.eval.evaluation.worker import Setup, Task
from tessella.eval.results import (
    ORIGINAL,
    FaceRecord,
    Figure,
    PictureRecord,
    Results,
    SetInfo,
    Subject,
    TokenRecord,
    WordRecord,
)
from tessella.tokens import Tokens

_LIBRARIES = ("tessella", "torch", "numpy", "pillow", "torchmetrics")


class Assembler:
    """Reads the pieces of a setup, all of which must be finished.

    Args:
        setup: what was done.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.journal = Journal(setup.folder)

    def results(self) -> Results:
        """Return all records and figures."""
        setup = self.setup
        subjects = tuple(s for contender in setup.contenders for s in contender.all_subjects)
        if any(dataset.info.canvas for dataset in setup.sets):
            canvas = Subject(RESIZE, "none", None, "TokBench's canvas without a codec")
            subjects = (canvas, *subjects)
        return Results(
            subjects=subjects,
            sets=tuple(self._info(dataset) for dataset in setup.sets),
            protocol=setup.equipment.options.protocol.to_dict(),
            versions=_versions(),
            pictures=tuple(self._pictures()),
            words=tuple(self._words()),
            faces=tuple(self._faces()),
            figures=tuple(self._figures()),
            tokens=tuple(self._tokens()),
            missing={**setup.equipment.missing, **self._lost_faces()},
        )

    def _info(self, dataset: EvalSet) -> SetInfo:
        engine = self.setup.equipment.engines.get(dataset.info.kind, "")
        return replace(dataset.info, engine=engine)

    def _rows(self, kind: str) -> Iterator[tuple[str, EvalSet, EvalPicture, dict[str, Any]]]:
        """Go through what contenders gave: subject, set, picture and row."""
        for c, contender in enumerate(self.setup.contenders):
            for s, dataset in enumerate(self.setup.sets):
                if kind not in ("", dataset.info.kind):
                    continue
                for p, picture in enumerate(dataset.pictures):
                    values = self.journal.values(self.setup.key(Task(c, s, p)))
                    for subject, row in zip(
                        contender.all_subjects, values["subjects"], strict=True
                    ):
                        yield subject.label, dataset, picture, row

    def _originals(self, kind: str) -> Iterator[tuple[EvalSet, EvalPicture, dict[str, Any]]]:
        for s, dataset in enumerate(self.setup.sets):
            for p, picture in enumerate(dataset.pictures):
                if dataset.info.kind == kind:
                    values = self.journal.values(self.setup.key(Task(None, s, p)))
                    yield dataset, picture, values

    def _pictures(self) -> Iterator[PictureRecord]:
        names = ("width", "height", "num_bytes", "encode_seconds", "decode_seconds", "scores")
        for subject, dataset, picture, row in self._rows(""):
            values = {name: row[name] for name in names}
            yield PictureRecord(subject, dataset.info.name, picture.name, **values)

    def _words(self) -> Iterator[WordRecord]:
        for dataset, picture, values in self._originals("text"):
            for label in (ORIGINAL, RESIZE):
                if label in values:
                    yield from _words(label, dataset, picture, values[label])
        for subject, dataset, picture, row in self._rows("text"):
            if "read" in row:
                yield from _words(subject, dataset, picture, row["read"])

    def _faces(self) -> Iterator[FaceRecord]:
        for dataset, picture, values in self._originals("faces"):
            if RESIZE in values:
                yield from _faces(RESIZE, dataset, picture, values[RESIZE])
        for subject, dataset, picture, row in self._rows("faces"):
            if "similar" in row:
                yield from _faces(subject, dataset, picture, row["similar"])

    def _figures(self) -> Iterator[Figure]:
        equipment = self.setup.equipment
        wanted = [m for m in equipment.options.metrics if m in equipment.missing]
        for s, dataset in enumerate(self.setup.sets):
            if dataset.info.kind != "images":
                continue
            real = self._features(None, s, None) if equipment.of_sets else {}
            for c, contender in enumerate(self.setup.contenders):
                for i, subject in enumerate(contender.all_subjects):
                    where = subject.label, dataset.info.name
                    for metric in wanted:
                        yield Figure(*where, metric, None, {}, "weights missing")
                    if equipment.of_sets:
                        fake = self._features(c, s, i)
                        yield from set_figures(*where, fake, real, equipment, dataset.info.digest)

    def _features(self, contender: int | None, s: int, i: int | None) -> Mapping[str, Tensor]:
        """Return the features of a subject's pictures (of the originals' for None)."""
        rows: dict[str, list[Tensor]] = {}
        for p in range(len(self.setup.sets[s].pictures)):
            arrays = self.journal.arrays(self.setup.key(Task(contender, s, p)))
            for name, values in arrays.items():
                rows.setdefault(name, []).append(values[i or 0])
        return {name: torch.stack(values) for name, values in rows.items()}

    def _tokens(self) -> Iterator[TokenRecord]:
        for c, contender in enumerate(self.setup.contenders):
            codec = codec_named(contender.name, device=self.setup.equipment.options.device)
            if not isinstance(codec, TokenizerCodec):
                continue
            best = max(range(len(contender.subjects)), key=lambda i: _rank(contender.subjects[i]))
            for s, dataset in enumerate(self.setup.sets):
                if dataset.info.kind == "images":
                    use = use_of(self._read(codec, c, s, best))
                    label = contender.subjects[best].label
                    yield from use.records(label, dataset.info.name)

    def _read(self, codec: TokenizerCodec, c: int, s: int, best: int) -> Iterator[Tokens]:
        for p in range(len(self.setup.sets[s].pictures)):
            data = self.journal.file(self.setup.key(Task(c, s, p)), best)
            yield codec.unpack(data).tokens

    def _lost_faces(self) -> dict[str, str]:
        lost: dict[str, int] = {}
        for dataset, _, values in self._originals("faces"):
            count = values.get("located", []).count(False)
            lost[dataset.info.name] = lost.get(dataset.info.name, 0) + count
        return {
            f"faces of {name}": f"{count} were not found on the originals and do not count"
            for name, count in lost.items()
            if count
        }


def _words(
    subject: str, dataset: EvalSet, picture: EvalPicture, read: list[str]
) -> Iterator[WordRecord]:
    for word, text in zip(picture.words, read, strict=True):
        yield WordRecord(
            subject, dataset.info.name, picture.name, word.text, text, word.height, word.ratio
        )


def _faces(
    subject: str, dataset: EvalSet, picture: EvalPicture, similar: list[float | None]
) -> Iterator[FaceRecord]:
    for face, value in zip(picture.faces, similar, strict=True):
        if value is not None:
            x0, y0, x1, y1 = face.box
            side = max(x1 - x0, y1 - y0)
            yield FaceRecord(subject, dataset.info.name, picture.name, side, face.ratio, value)


def _rank(subject: Subject) -> float:
    """Order subjects of one codec by how much they keep; no quality means all."""
    return float("inf") if subject.quality is None else float(subject.quality)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a source tree
            found[name] = "unknown"
    return found


__all__ = ["Assembler"]
