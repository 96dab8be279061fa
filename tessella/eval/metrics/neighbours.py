"""Precision, recall (arXiv 1904.06991), density and coverage (arXiv 2002.09797).

Each picture has a ball that reaches to its k-th nearest neighbour of the same set. ::

    precision = share of generated pictures inside any real ball
    recall    = share of real pictures inside any generated ball
    density   = mean over generated pictures of (number of real balls around it) / k
    coverage  = share of real pictures whose ball holds a generated picture

Precision and recall are customarily of k = 3 with the border inside (``<=``); density and coverage
of k = 5 without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tessella.errors import ShapeError
from tessella.eval.metrics.base import Features, TwoSets

_ROWS = 1024  # of the distance matrix at once


class NeighbourResult(NamedTuple):
    """Four shares, float64 scalars.

    Args:
        precision: in [0, 1].
        recall: in [0, 1].
        density: at least 0; may exceed 1.
        coverage: in [0, 1].
    """

    precision: Tensor
    recall: Tensor
    density: Tensor
    coverage: Tensor


def neighbour_shares(
    real: Tensor, fake: Tensor, *, k: int = 3, includes_border: bool = True
) -> NeighbourResult:
    """Return the four shares of features ``(M, D)`` and ``(N, D)``.

    Args:
        real: of real pictures.
        fake: of generated ones.
        k: which neighbour a ball reaches to; a picture is no neighbour of itself.
        includes_border: whether a picture at exactly the radius is inside.

    Raises:
        ShapeError: if a set has no k-th neighbour.
    """
    if not 1 <= k < min(len(real), len(fake)):
        raise ShapeError(
            f"k={k} given for sets of {len(real)} and {len(fake)} pictures; expected at least 1 "
            "and fewer than the smaller set has"
        )
    real, fake = real.double(), fake.double()
    real_radius, fake_radius = _radii(real, k), _radii(fake, k)
    compare = torch.le if includes_border else torch.lt
    precise, around, covered, recalled = [], [], [], []
    for start, distances in _distances(fake, real):
        inside = compare(distances, real_radius)
        precise.append(inside.any(dim=1))
        around.append(inside.sum(dim=1))
        own = fake_radius[start : start + len(distances), None]
        recalled.append(compare(distances, own).any(dim=0))
        covered.append(inside.any(dim=0))
    return NeighbourResult(
        torch.cat(precise).double().mean(),
        torch.stack(recalled).any(dim=0).double().mean(),
        torch.cat(around).double().mean() / k,
        torch.stack(covered).any(dim=0).double().mean(),
    )


class PrecisionRecall(TwoSets):
    """The four shares of real and generated pictures.

    Args:
        features: from what ``update`` is given to ``(N, D)``; None if it is given features.
        k: which neighbour a ball reaches to.
        includes_border: whether a picture at exactly the radius is inside.
        options: of torchmetrics' ``Metric``.
    """

    higher_is_better = True

    def __init__(
        self,
        features: Features | None = None,
        *,
        k: int = 3,
        includes_border: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(features, **options)
        self.k, self.includes_border = k, includes_border

    def compute(self) -> NeighbourResult:
        """Return precision, recall, density and coverage.

        Raises:
            ShapeError: if a set has no k-th neighbour.
        """
        real, fake = self.both()
        return neighbour_shares(real, fake, k=self.k, includes_border=self.includes_border)


def _distances(rows: Tensor, others: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield squared distances of chunks of rows to all others, with the first row's number."""
    squares = others.square().sum(dim=1)
    for start in range(0, len(rows), _ROWS):
        chunk = rows[start : start + _ROWS]
        found = chunk.square().sum(dim=1, keepdim=True) + squares - 2 * chunk @ others.T
        yield start, found.clamp(min=0)


def _radii(rows: Tensor, k: int) -> Tensor:
    """Return the squared distance of each row to its k-th neighbour, ``(N,)``."""
    found = []
    for start, distances in _distances(rows, rows):
        index = torch.arange(len(distances), device=rows.device)
        distances[index, start + index] = torch.inf  # not a neighbour of itself
        found.append(distances.kthvalue(k, dim=1).values)
    return torch.cat(found)


__all__ = ["NeighbourResult", "PrecisionRecall", "neighbour_shares"]
