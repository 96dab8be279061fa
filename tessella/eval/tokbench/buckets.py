"""Size buckets of TokBench (arXiv 2505.18142): small, medium, large, and the mean of the three.

A word's or face's ``ratio`` is its size over the picture's longer side. Buckets are half-open;
what is smaller than the first edge, or of ratio 1 and more, is left out. The mean gives each bucket
the same weight, whatever its number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tessella.errors import ShapeError

Edges = tuple[float, float, float]
Kind = Literal["text", "face"]

_TEXT: tuple[Edges, ...] = ((0.02, 0.03, 0.04), (0.01, 0.02, 0.03), (0.005, 0.01, 0.02))
_FACE: tuple[Edges, ...] = ((0.1, 0.2, 0.3), (0.05, 0.1, 0.2), (0.02, 0.05, 0.1))
_SETTINGS = {"image/256": 0, "image/512": 1, "image/1024": 2, "video/256": 1, "video/480": 2}

EDGES: Mapping[Kind, Mapping[str, Edges]] = MappingProxyType(
    {
        "text": MappingProxyType({name: _TEXT[i] for name, i in _SETTINGS.items()}),
        "face": MappingProxyType({name: _FACE[i] for name, i in _SETTINGS.items()}),
    }
)


class BucketResult(NamedTuple):
    """Scores by size.

    Args:
        counts: instances in the small, medium and large bucket.
        means: of their scores; nan for an empty bucket.
        mean: of the three means; nan if one is empty.
    """

    counts: tuple[int, ...]
    means: tuple[float, ...]
    mean: float


def bucket_means(ratios: ArrayLike, scores: ArrayLike, edges: Sequence[float]) -> BucketResult:
    """Group scores by size.

    Args:
        ratios: size of each instance over the picture's longer side.
        scores: of each instance.
        edges: lower ends of the buckets, ascending; the last reaches to 1.

    Raises:
        ShapeError: if there are not as many ratios as scores.
    """
    sizes, values = (np.asarray(v, dtype=np.float64) for v in (ratios, scores))
    if sizes.shape != values.shape or sizes.ndim != 1:
        raise ShapeError(
            f"ratios {sizes.shape} and scores {values.shape} given; expected one each an instance"
        )
    counts, means = [], []
    for low, high in zip(edges, [*edges[1:], 1.0], strict=True):
        inside = values[(sizes >= low) & (sizes < high)]
        counts.append(len(inside))
        means.append(float(inside.mean()) if len(inside) else float("nan"))
    return BucketResult(tuple(counts), tuple(means), float(np.mean(means)))


__all__ = ["EDGES", "BucketResult", "Edges", "Kind", "bucket_means"]
