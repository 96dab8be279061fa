"""Words cut from a picture, as TokBench's recogniser gets them (arXiv 2505.18142).

Boxes are truncated to whole pixels, ends exclusive; a crop is fitted into 32x128 with its aspect
kept, zeros to the right and below, then normalised.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Pixels = NDArray[np.uint8]

HEIGHT, WIDTH = 32, 128
_MEAN, _STD = (0.694, 0.695, 0.693), (0.299, 0.296, 0.301)


def crop_word(picture: Pixels, box: Sequence[float]) -> Pixels | None:
    """Cut a box from a picture; None if nothing of it lies inside.

    Args:
        picture: uint8 ``(H, W, 3)``.
        box: ``(x0, y0, x1, y1)`` in pixels; clamped to the picture.
    """
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = (int(value) for value in box)
    x0, x1 = (min(max(x, 0), width) for x in (x0, x1))
    y0, y1 = (min(max(y, 0), height) for y in (y0, y1))
    if x1 <= x0 or y1 <= y0:
        return None
    return picture[y0:y1, x0:x1]


def fit_word(word: Pixels) -> Tensor:
    """Resize a crop ``(h, w, 3)`` into ``(3, 32, 128)`` in [0, 1], padded right and below."""
    images = torch.from_numpy(np.array(word)).permute(2, 0, 1)[None].float() / 255
    aspect, wanted = word.shape[0] / word.shape[1], HEIGHT / WIDTH
    size = (HEIGHT, WIDTH)
    if aspect > wanted:
        size = (HEIGHT, max(int(HEIGHT / aspect), 1))
    elif aspect < wanted:
        size = (max(int(WIDTH * aspect), 1), WIDTH)
    fitted = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
    return F.pad(fitted[0], (0, WIDTH - size[1], 0, HEIGHT - size[0]))


def normalise_word(fitted: Tensor) -> Tensor:
    """Return the recogniser's input ``(3, 32, 128)``."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (_MEAN, _STD))
    return (fitted - mean) / std


__all__ = ["HEIGHT", "WIDTH", "crop_word", "fit_word", "normalise_word"]
