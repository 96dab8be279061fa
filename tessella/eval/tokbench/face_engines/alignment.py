"""From a located face to ArcFace's square of 112 pixels (arXiv 1801.07698).

Annotated landmarks are brought nearest to ArcFace's template. dlib's five points are others (the
corners of both eyes and the base of the nose), so that the middles of the eyes and the base of the
nose are brought to where these lie in the template. Without landmarks the box is stretched to the
square.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tessella.errors import ShapeError
from tessella.eval.tokbench.face_annotations import Box
from tessella.eval.tokbench.face_engines.base import Located
from tessella.eval.tokbench.faces import (
    SIDE,
    TEMPLATE,
    Matrix,
    Pixels,
    align_face,
    fit_similarity,
    similarity_transform,
)

# measured: the median over 366 photographs aligned by the template's own five points
_NOSE_BASE = (55.8, 80.2)
_DLIB_TARGETS = np.array([TEMPLATE[0], TEMPLATE[1], _NOSE_BASE])
_SCALES = (1e-4, 1e4)


def face_transform(located: Located) -> Matrix | None:
    """Return ``(2, 3)``, from the picture to the square; None if no square can be told."""
    if located.landmarks is None:
        matrix = _stretched(located.box)
    else:
        is_dlib = located.source == "dlib"
        points = np.asarray(located.landmarks, dtype=np.float64)
        points = template_points(points) if is_dlib else points
        if not points.std(axis=0).any():
            return None
        matrix = fit_similarity(points, _DLIB_TARGETS) if is_dlib else similarity_transform(points)
    # scattered landmarks may shrink the face to nothing, crowded ones may blow it up
    scale = abs(np.linalg.det(matrix[:, :2])) ** 0.5
    return matrix if _SCALES[0] < scale < _SCALES[1] else None


def _stretched(box: Box) -> Matrix:
    x0, y0, x1, y1 = box
    across, down = SIDE / (x1 - x0), SIDE / (y1 - y0)
    # edges to edges: centres of pixels are whole numbers, edges lie half a pixel beside
    return np.array([[across, 0, (0.5 - x0) * across - 0.5], [0, down, (0.5 - y0) * down - 0.5]])


def template_points(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the left eye, the right eye and the base of the nose of dlib's five points.

    dlib lists outer and inner corner of the eye at the right of the picture, then of that at the
    left, then the base of the nose.
    """
    return np.stack([points[2:4].mean(axis=0), points[0:2].mean(axis=0), points[4]])


def aligned_square(picture: Pixels, located: Located) -> Pixels:
    """Cut ``(112, 112, 3)`` from a picture.

    Raises:
        ShapeError: if no square can be told.
    """
    matrix = face_transform(located)
    if matrix is None:
        raise ShapeError(f"landmarks {located.landmarks} given, which tell no place of a face")
    return align_face(picture, matrix)


__all__ = ["aligned_square", "face_transform", "template_points"]
