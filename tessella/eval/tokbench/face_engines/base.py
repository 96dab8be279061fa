"""What judges faces: find one in the original, describe it, compare two descriptions (F-Sim).

A face is located once, in the original, and the same place is cut from the reconstruction
(TokBench, arXiv 2505.18142): the score is of the face, not of a detector. Scores of unlike engines
do not compare, so that reports name the engine, its versions and its weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from tessella.errors import ShapeError
from tessella.eval.tokbench.face_annotations import Box, Face, Points
from tessella.eval.tokbench.faces import Pixels, face_similarity
from tessella.eval.weights import file_digest

Embedding = NDArray[np.float64]
Source = Literal["annotation", "dlib", "box"]

EXTRA = "pip install 'tessella[faces]'"


@dataclass(frozen=True, slots=True)
class Located:
    """Where a face lies in a picture.

    Args:
        box: as annotated.
        landmarks: five ``(x, y)``; in the annotation's order or in dlib's; None: the box alone.
        source: where the landmarks come from.
        size: width and height of the picture.
    """

    box: Box
    landmarks: Points | None
    source: Source
    size: tuple[int, int]


class FaceEngine(ABC):
    """Describes faces by vectors and compares them.

    Args:
        packages: names and versions of the packages that the scores depend on.
        files: weights that they depend on.

    Attributes:
        name: by which the engine is chosen.
        identity: name, versions and SHA-256 of the weights: equal ones give scores that compare.
    """

    name: ClassVar[str]

    def __init__(self, packages: Mapping[str, str], files: Sequence[Path] = ()) -> None:
        parts = [f"{package} {version}" for package, version in packages.items()]
        parts += [f"{file.name} sha256:{file_digest(file)}" for file in files]
        self.identity = f"{self.name} ({', '.join(parts)})"

    def locate(self, picture: Pixels, face: Face) -> Located | None:
        """Find a face in the original picture.

        Args:
            picture: uint8 RGB ``(H, W, 3)``.
            face: as annotated.

        Returns:
            What :meth:`embed` takes, for the original and for reconstructions; None if the box
            lies outside of the picture or the landmarks tell no place.

        Raises:
            ShapeError: if the picture is of another kind.
        """
        width, height = _size(picture)
        x0, y0, x1, y1 = face.box
        if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
            return None
        return self._locate(np.ascontiguousarray(picture), face)

    def embed(self, picture: Pixels, located: Located) -> Embedding:
        """Describe a face by a float64 vector.

        Args:
            picture: the original or a reconstruction, uint8 RGB ``(H, W, 3)``.
            located: from the original.

        Raises:
            ShapeError: if the picture is of another kind or size than the original.
        """
        if _size(picture) != located.size:
            width, height = _size(picture)
            raise ShapeError(
                f"a picture of {width} x {height} given for a face of one of {located.size[0]} x "
                f"{located.size[1]}; resize the reconstruction to the original's size"
            )
        return self._embed(np.ascontiguousarray(picture), located)

    def similarity(self, first: Embedding, second: Embedding) -> float:
        """Return how alike two faces are: the cosine of their vectors, 0 where one is zero."""
        return float(face_similarity(first, second))

    @abstractmethod
    def _locate(self, picture: Pixels, face: Face) -> Located | None:
        """Find a face whose box meets the picture."""

    @abstractmethod
    def _embed(self, picture: Pixels, located: Located) -> Embedding:
        """Describe a face of a picture of the original's size."""


def picture_size(picture: Pixels) -> tuple[int, int]:
    """Return width and height."""
    return picture.shape[1], picture.shape[0]


def _size(picture: Pixels) -> tuple[int, int]:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ShapeError(
            f"a picture of {picture.dtype} {picture.shape} given; expected uint8 (H, W, 3)"
        )
    return picture_size(picture)


__all__ = ["EXTRA", "Embedding", "FaceEngine", "Located", "Source", "picture_size"]
