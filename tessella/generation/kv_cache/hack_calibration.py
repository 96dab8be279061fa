"""Which heads are contextual and which structural, told by their attention (arXiv 2504.09261).

    sigma(l, h) = sum over keys j of Var over queries i of A_ij        at the last scale

A contextual head looks at the same few keys from everywhere, so its columns vary little; a
structural head follows the position, and its columns vary much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tessella.errors import ConfigError
from tessella.generation.kv_cache.base import CacheGeometry
from tessella.generation.kv_cache.calibration import Calibration, Calibrator, check_model


@dataclass(frozen=True, slots=True)
class HeadCalibration(Calibration):
    """How much the attention of each head depends on the query.

    Args:
        variances: ``[layer][head]``: sums of column variances, averaged over pictures.
        pictures: how many were measured.
    """

    method: ClassVar[str] = "head"
    variances: tuple[tuple[float, ...], ...]
    pictures: int

    def __post_init__(self) -> None:
        widths = {len(heads) for heads in self.variances}
        if len(widths) != 1 or 0 in widths:
            raise ConfigError("head.variances: expected as many heads in every layer")
        if not all(0 <= v < math.inf for heads in self.variances for v in heads):
            raise ConfigError("head.variances: expected finite numbers of 0 or more")

    def check(self, geometry: CacheGeometry) -> None:
        """Check that this is of the model of a run.

        Raises:
            ConfigError: if not.
        """
        check_model(self.method, len(self.variances), len(self.variances[0]), geometry)

    def is_contextual(self, share: float) -> tuple[tuple[bool, ...], ...]:
        """Return ``[layer][head]``: whether it is among the share of lowest variance.

        The number of contextual heads is rounded; of equals, the first layers and heads win.
        """
        heads = len(self.variances[0])
        values = [value for layer in self.variances for value in layer]
        lowest = sorted(range(len(values)), key=values.__getitem__)
        chosen = set(lowest[: round(share * len(values))])
        return tuple(
            tuple(layer * heads + head in chosen for head in range(heads))
            for layer in range(len(self.variances))
        )


class HeadCalibrator(Calibrator):
    """Measures column variances at the last scale."""

    def __init__(self) -> None:
        self._variances: dict[int, Tensor] = {}
        self._pictures = self._batch = self._queries = 0
        self._sums = self._squares = torch.empty(0)

    def add(self, layer: int, scale: int, probabilities: Tensor, geometry: CacheGeometry) -> None:
        """Take note of some queries of the last scale."""
        if scale != len(geometry.sizes) - 1:
            return
        columns = probabilities.double()
        sums, squares = columns.sum(dim=2), columns.square().sum(dim=2)
        first = self._queries == 0
        self._sums = sums if first else self._sums + sums
        self._squares = squares if first else self._squares + squares
        self._queries += columns.shape[2]
        if self._queries == geometry.sizes[scale]:
            found = sum_of_column_variances(self._sums, self._squares, self._queries).sum(dim=0)
            self._variances[layer] = self._variances.get(layer, 0) + found.cpu()
            self._batch, self._queries = len(columns), 0

    def end_run(self) -> None:
        """Count the pictures of a batch."""
        self._pictures += self._batch

    def finish(self) -> HeadCalibration:
        """Return averages over pictures."""
        if not self._pictures:
            raise ConfigError("no picture was measured; give at least one condition")
        means = [self._variances[i] / self._pictures for i in range(len(self._variances))]
        return HeadCalibration(tuple(tuple(mean.tolist()) for mean in means), self._pictures)


def sum_of_column_variances(sums: Tensor, squares: Tensor, queries: int) -> Tensor:
    """Return the population variance over queries, summed over keys, ``(...)``.

    Args:
        sums: over queries, ``(..., T)`` float64.
        squares: sums of squares, ``(..., T)`` float64.
        queries: how many.
    """
    mean = sums / queries
    return (squares / queries - mean.square()).clamp_min(0).sum(dim=-1)


__all__ = ["HeadCalibration", "HeadCalibrator", "sum_of_column_variances"]
