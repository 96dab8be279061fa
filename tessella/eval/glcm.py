"""Texture by grey-level co-occurrence, after Diffusion-4K (arXiv 2503.18352).

A picture is read as 64 grey levels and cut into 64x64 patches. For distances 1 to 4 and the angles
0, 45, 90 and 135 degrees, ``G[i, j, d, a]`` is the share of pixel pairs with levels i and j at that
offset. Per patch:

``score``    Shannon entropy of the *histogram of distinct values* of G, zeros included, in bits:
             what the published tables call GLCM score
``entropy``  mean over the 16 matrices of ``-sum p log2 p``: the textbook's
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tessella.errors import ShapeError

LEVELS = 64
PATCH = 64
_DISTANCES = (1, 2, 3, 4)
_ANGLES = (0.0, math.pi / 4, math.pi / 2, 3 * math.pi / 4)
# luma weights in fixed point of 15 bits, as OpenCV rounds them
_WEIGHTS, _SHIFT = (9798, 19235, 3735), 15

Grey = NDArray[np.uint8]
Matrices = NDArray[np.float64]


def grey_levels(pixels: Tensor) -> Grey:
    """Return the 64 grey levels of uint8 RGB ``(3, H, W)``, ``(H, W)`` in 0..63.

    Raises:
        ShapeError: if the pixels are not uint8 ``(3, H, W)``.
    """
    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or len(pixels) != 3:
        raise ShapeError(
            f"pixels of shape {tuple(pixels.shape)} and dtype {pixels.dtype} given; expected uint8 "
            "(3, H, W)"
        )
    channels = pixels.cpu().numpy().astype(np.int32)
    total = sum(w * c for w, c in zip(_WEIGHTS, channels, strict=True))
    grey = (total + (1 << (_SHIFT - 1))) >> _SHIFT
    return np.asarray(grey // 4, dtype=np.uint8)


def co_occurrence(patch: Grey) -> Matrices:
    """Return G of a patch of levels, ``(64, 64, 4, 4)`` by level, level, distance, angle."""
    height, width = patch.shape
    levels = patch.astype(np.int64)
    found = np.zeros((LEVELS, LEVELS, len(_DISTANCES), len(_ANGLES)))
    for d, distance in enumerate(_DISTANCES):
        for a, angle in enumerate(_ANGLES):
            down, right = round(distance * math.sin(angle)), round(distance * math.cos(angle))
            left = max(0, -right)
            first = levels[: height - down, left : width - max(0, right)]
            second = levels[down:, left + right : width - max(0, right) + right]
            pairs = np.bincount((first * LEVELS + second).ravel(), minlength=LEVELS**2)
            found[:, :, d, a] = pairs.reshape(LEVELS, LEVELS) / pairs.sum()
    return found


def score(matrices: Matrices) -> float:
    """Return the GLCM score: the entropy of which values occur, in bits."""
    _, counts = np.unique(matrices, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def entropy(matrices: Matrices) -> float:
    """Return the mean over the matrices of their entropy, in bits."""
    logs = np.log2(matrices, out=np.zeros_like(matrices), where=matrices > 0)
    return float(-(matrices * logs).sum(axis=(0, 1)).mean())


def properties(matrices: Matrices) -> dict[str, float]:
    """Return the mean over the matrices of Haralick's properties, each rounded to 4 decimals."""
    i, j = (index[..., None, None].astype(np.float64) for index in np.indices((LEVELS, LEVELS)))
    squares = (matrices**2).sum(axis=(0, 1))
    found = {
        "contrast": (matrices * (i - j) ** 2).sum(axis=(0, 1)),
        "dissimilarity": (matrices * np.abs(i - j)).sum(axis=(0, 1)),
        "homogeneity": (matrices / (1 + (i - j) ** 2)).sum(axis=(0, 1)),
        "energy": np.sqrt(squares),
        "correlation": _correlation(matrices, i, j),
        "ASM": squares,
    }
    return {name: float(np.round(values, 4).mean()) for name, values in found.items()}


def patches(levels: Grey) -> list[list[Grey]]:
    """Cut levels ``(H, W)`` into rows of whole patches; what is left at the ends is dropped.

    Raises:
        ShapeError: if the picture is smaller than a patch.
    """
    rows, columns = (side // PATCH for side in levels.shape)
    if not rows or not columns:
        raise ShapeError(f"a picture of {levels.shape} pixels given; expected at least 64 x 64")
    return [
        [levels[PATCH * r : PATCH * (r + 1), PATCH * c : PATCH * (c + 1)] for c in range(columns)]
        for r in range(rows)
    ]


def _correlation(matrices: Matrices, i: Matrices, j: Matrices) -> Matrices:
    mi, mj = (matrices * i).sum(axis=(0, 1)), (matrices * j).sum(axis=(0, 1))
    di, dj = i - mi, j - mj
    si, sj = (np.sqrt((matrices * d**2).sum(axis=(0, 1))) for d in (di, dj))
    covariance = (matrices * di * dj).sum(axis=(0, 1))
    flat = (si < 1e-15) | (sj < 1e-15)  # one level alone: correlated with itself
    return np.where(flat, 1.0, covariance / np.where(flat, 1.0, si * sj))


__all__ = [
    "LEVELS",
    "PATCH",
    "co_occurrence",
    "entropy",
    "grey_levels",
    "patches",
    "properties",
    "score",
]
