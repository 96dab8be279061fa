"""Histograms of gradients of the aligned face: an engine without weights (Dalal and Triggs 2005).

Nine orientations, cells of 8 x 8 pixels, blocks of 2 x 2 cells, the strongest channel a pixel. It
compares drawing, not identity: the cosine falls with blur and blocks, but two strangers may score
as high as a damaged copy. Without annotated landmarks the box is stretched to the square.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import ClassVar

import numpy as np

from tessella.errors import MissingDependencyError
from tessella.eval.tokbench.face_annotations import Face
from tessella.eval.tokbench.face_engines.alignment import aligned_square, face_transform
from tessella.eval.tokbench.face_engines.base import (
    EXTRA,
    Embedding,
    FaceEngine,
    Located,
    Source,
    picture_size,
)
from tessella.eval.tokbench.faces import Pixels


class HogEngine(FaceEngine):
    """See the module; 1 is the same face, 0 a flat surface.

    Raises:
        MissingDependencyError: if scikit-image is not installed.
    """

    name: ClassVar[str] = "hog"

    def __init__(self) -> None:
        try:
            from skimage.feature import hog
        except ImportError as error:
            raise MissingDependencyError(f"hog needs the package scikit-image: {EXTRA}") from error
        self._hog = hog
        super().__init__({"scikit-image": version("scikit-image")})

    def _locate(self, picture: Pixels, face: Face) -> Located | None:
        source: Source = "box" if face.landmarks is None else "annotation"
        located = Located(face.box, face.landmarks, source, picture_size(picture))
        return None if face_transform(located) is None else located

    def _embed(self, picture: Pixels, located: Located) -> Embedding:
        vector = self._hog(
            aligned_square(picture, located),
            orientations=9,
            pixels_per_cell=(8, 8),
            cells_per_block=(2, 2),
            channel_axis=-1,
        )
        return np.asarray(vector, dtype=np.float64)


__all__ = ["HogEngine"]
