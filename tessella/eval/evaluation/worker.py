"""The work on one picture: with one contender, or on the untouched original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from tessella.codecs.named import codec_named
from tessella.eval.evaluation.coding import Coded, Coder
from tessella.eval.evaluation.contenders import RESIZE, Contender
from tessella.eval.evaluation.equipment import Equipment
from tessella.eval.evaluation.journal import Journal, Piece
from tessella.eval.evaluation.judges import Judges, face_name
from tessella.eval.evaluation.scores import Features, Scores
from tessella.eval.evaluation.sets import EvalPicture, EvalSet
from tessella.eval.results import ORIGINAL
from tessella.images import Pixels


@dataclass(frozen=True, slots=True)
class Task:
    """One picture of one set, and what is done to it.

    Args:
        contender: its place; None for the untouched original.
        dataset: place of the set.
        picture: place of the picture.
    """

    contender: int | None
    dataset: int
    picture: int


@dataclass(frozen=True, slots=True)
class Setup:
    """All that tasks refer to; plain data, so that processes can be given it.

    Args:
        contenders: what is evaluated.
        identities: of each, a hash over all that decides its reconstructions.
        sets: on what.
        equipment: with what.
        folder: of finished pieces.
    """

    contenders: tuple[Contender, ...]
    identities: tuple[str, ...]
    sets: tuple[EvalSet, ...]
    equipment: Equipment
    folder: Path

    def key(self, task: Task) -> str:
        """Return the name of a task's piece: a hash over all that decides its figures."""
        found = self.sets[task.dataset]
        picture = found.pictures[task.picture]
        kind = found.info.kind
        settings: dict[str, Any] = {
            "picture": picture.digest,
            "marks": repr((picture.words, picture.faces)),
            "set": [kind, found.info.canvas, found.save_as],
            "engine": self.equipment.engines.get(kind, ""),
            "evidence": self.equipment.evidence() if kind == "images" else {},
            "contender": ORIGINAL,
        }
        if task.contender is not None:
            contender = self.contenders[task.contender]
            settings["contender"] = self.identities[task.contender]
            settings["subjects"] = [asdict(subject) for subject in contender.all_subjects]
        return Journal(self.folder).key(settings)


class Worker:
    """Does tasks one after the other; keeps what it loaded.

    Args:
        setup: what tasks refer to.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.journal = Journal(setup.folder)
        self._coder: tuple[int, Coder] | None = None

    def run(self, task: Task) -> None:
        """Do a task and keep its piece, unless that is there already.

        Raises:
            PictureError: if the picture cannot be read, or a format cannot hold it.
        """
        key = self.setup.key(task)
        if self.journal.has(key):
            return
        dataset = self.setup.sets[task.dataset]
        picture = dataset.pictures[task.picture]
        original = picture.read()
        if dataset.info.kind == "images":
            original = self.cropped(original)
        if task.contender is None:
            piece = self._original(dataset, picture, original)
        else:
            faces = self.journal.arrays(self.setup.key(replace(task, contender=None)))
            coder = self.coder(task.contender)
            piece = self._coded(coder, dataset, picture, original, faces)
        self.journal.write(key, piece)

    def cropped(self, pixels: Pixels) -> Pixels:
        """Return what the protocol cuts from a picture, uint8 ``(H, W, 3)``."""
        protocol = self.setup.equipment.options.protocol
        if protocol.crop == "none":
            return pixels
        cropped = protocol.prepare(Image.fromarray(pixels)).permute(1, 2, 0).numpy()
        return np.ascontiguousarray(cropped)

    def coder(self, index: int) -> Coder:
        """Return the coder of a contender, loaded if it is not the one at hand."""
        if self._coder is None or self._coder[0] != index:
            self._coder = None  # two models need not be in memory
            contender = self.setup.contenders[index]
            options = self.setup.equipment.options
            codec = codec_named(contender.name, device=options.device)
            peers = [codec_named(name) for name in contender.peers]
            self._coder = index, Coder(contender, codec, peers, options.protocol)
        return self._coder[1]

    def _original(self, dataset: EvalSet, picture: EvalPicture, pixels: Pixels) -> Piece:
        kind, judges = dataset.info.kind, self._judges
        if kind == "images":
            return Piece({}, self._features.of([pixels]))
        if not judges.can(kind):
            return Piece({}, {})
        canvas, placement = dataset.to_canvas(pixels)
        back = dataset.from_canvas(canvas, placement, picture.name)
        if kind == "text":
            values: dict[str, Any] = {ORIGINAL: judges.read(pixels, picture)}
            if dataset.info.canvas:
                values[RESIZE] = judges.read(back, picture)
            return Piece(values, {})
        embeddings = judges.embed(pixels, pixels, picture)
        arrays = {face_name(i): e for i, e in enumerate(embeddings) if e is not None}
        values = {"located": [embedding is not None for embedding in embeddings]}
        if dataset.info.canvas:
            values[RESIZE] = judges.similar(pixels, back, picture, arrays)
        return Piece(values, arrays)

    def _coded(
        self,
        coder: Coder,
        dataset: EvalSet,
        picture: EvalPicture,
        original: Pixels,
        faces: Mapping[str, Tensor],
    ) -> Piece:
        kind, judges = dataset.info.kind, self._judges
        canvas, placement = dataset.to_canvas(original)
        rows, files, pictures = [], [], []
        for coded in coder.code(canvas):
            row = self._row(coded, canvas)
            back = dataset.from_canvas(coded.pixels, placement, picture.name)
            scores = self._scores if kind == "images" else self._fidelity
            row["scores"] = scores.measure(back, original)
            if kind == "text" and judges.can(kind):
                row["read"] = judges.read(back, picture)
            if kind == "faces" and judges.can(kind):
                row["similar"] = judges.similar(original, back, picture, faces)
            rows.append(row)
            files.append(coded.data)
            pictures.append(back)
        if kind != "images":
            return Piece({"subjects": rows}, {})
        return Piece({"subjects": rows}, self._features.of(pictures), tuple(files))

    def _row(self, coded: Coded, canvas: Pixels) -> dict[str, Any]:
        return {
            "width": canvas.shape[1],
            "height": canvas.shape[0],
            "num_bytes": len(coded.data),
            "encode_seconds": coded.encode_seconds,
            "decode_seconds": coded.decode_seconds,
        }

    @cached_property
    def _scores(self) -> Scores:
        return Scores(self.setup.equipment)

    @cached_property
    def _fidelity(self) -> Scores:
        return Scores(self.setup.equipment, ("psnr",))

    @cached_property
    def _features(self) -> Features:
        return Features(self.setup.equipment)

    @cached_property
    def _judges(self) -> Judges:
        return Judges(self.setup.equipment)


def tasks_of(setup: Setup, contender: int | None) -> Sequence[Task]:
    """Return the tasks of one contender, or of the originals."""
    return [
        Task(contender, i, j)
        for i, dataset in enumerate(setup.sets)
        for j in range(len(dataset.pictures))
    ]


__all__ = ["Setup", "Task", "Worker", "tasks_of"]
