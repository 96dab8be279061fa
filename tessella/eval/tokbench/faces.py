"""Faces aligned by five landmarks, and their similarity (TokBench, arXiv 2505.18142).

The similarity transform (rotation, one scale, shift) that brings the landmarks nearest to a
template in the least-squares sense (Umeyama 1991) cuts the same square from the original and from
the reconstruction; F-Sim is the cosine of what a face recogniser makes of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tessella.errors import ShapeError

SIDE = 112
# left eye, right eye, nose, left and right corner of the mouth, in a square of 112 pixels
TEMPLATE = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)

Pixels = NDArray[np.uint8]
Matrix = NDArray[np.float64]


def similarity_transform(landmarks: ArrayLike, side: int = SIDE) -> Matrix:
    """Return ``(2, 3)``, from picture coordinates to those of the aligned square.

    Args:
        landmarks: ``(5, 2)`` in pixels, the order of the template.
        side: of the square.

    Raises:
        ShapeError: if there are not five, or all lie in one point.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (len(TEMPLATE), 2) or not points.std(axis=0).any():
        raise ShapeError(
            f"landmarks of shape {points.shape} given; expected (5, 2), not all the same point"
        )
    return fit_similarity(points, np.array(TEMPLATE) * (side / SIDE))


def fit_similarity(points: Matrix, targets: Matrix) -> Matrix:
    """Return the ``(2, 3)`` similarity transform that brings points nearest to their targets.

    Args:
        points: float64 ``(N, 2)``, not all the same.
        targets: as many.
    """
    centre, target = points.mean(axis=0), targets.mean(axis=0)
    source, wanted = points - centre, targets - target
    u, singular, vt = np.linalg.svd(wanted.T @ source / len(points))
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])  # no reflection
    rotation = (u * signs) @ vt
    scale = (singular * signs).sum() / source.var(axis=0).sum()
    linear = scale * rotation
    return np.concatenate([linear, (target - linear @ centre)[:, None]], axis=1)


def align_face(picture: Pixels, matrix: Matrix, side: int = SIDE) -> Pixels:
    """Cut the aligned square from a picture, bilinear with exact coordinates, black outside.

    Args:
        picture: uint8 ``(H, W, C)``; pixel centres are whole numbers.
        matrix: ``(2, 3)`` of :func:`similarity_transform`.
        side: of the square.
    """
    height, width = picture.shape[:2]
    inverse = np.linalg.inv(np.concatenate([matrix, [[0.0, 0.0, 1.0]]]))
    rows, columns = np.mgrid[:side, :side].astype(np.float64)
    x, y = (inverse[i, 0] * columns + inverse[i, 1] * rows + inverse[i, 2] for i in range(2))
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    total = np.zeros((side, side, picture.shape[2]))
    for dy in (0, 1):
        for dx in (0, 1):
            i, j = top + dy, left + dx
            weight = (1 - np.abs(y - i)) * (1 - np.abs(x - j))
            inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
            values = picture[i.clip(0, height - 1), j.clip(0, width - 1)]
            total += values * (weight * inside)[..., None]
    return np.rint(total).clip(0, 255).astype(np.uint8)


def recogniser_input(aligned: Pixels) -> NDArray[np.float32]:
    """Return ArcFace's input ``(1, 3, 112, 112)`` of an aligned RGB square, in [-1, 1]."""
    values = (aligned.astype(np.float32) - 127.5) / 127.5
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None], dtype=np.float32)


def face_similarity(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Return the cosine of embeddings ``(..., D)``, in [-1, 1]; 0 where one is zero."""
    a, b = (np.asarray(v, dtype=np.float64) for v in (first, second))
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    products = (a * b).sum(axis=-1)
    nonzero = lengths > 0
    return np.where(nonzero, products / np.where(nonzero, lengths, 1.0), 0.0)


__all__ = [
    "SIDE",
    "TEMPLATE",
    "Matrix",
    "Pixels",
    "align_face",
    "face_similarity",
    "fit_similarity",
    "recogniser_input",
    "similarity_transform",
]
