"""Kernel distance of two sets of features (KID, arXiv 1801.01401).

Unbiased squared maximum mean discrepancy with the kernel ``(x . y / D + 1)^3``, as mean and
population deviation over random subsets. It may be negative. Tables often show it times 1000.

Subsets are drawn as torch-fidelity draws them: NumPy's ``RandomState(seed)``, first from the real
set, then from the generated one. They depend on the order of pictures.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tessella.errors import ShapeError
from tessella.eval.metrics.base import Features, TwoSets


class KernelDistanceResult(NamedTuple):
    """Mean and population deviation over subsets.

    Args:
        mean: float64 scalar.
        deviation: float64 scalar.
    """

    mean: Tensor
    deviation: Tensor


def unbiased_mmd2(first: Tensor, second: Tensor) -> float:
    """Return the unbiased squared discrepancy of features ``(M, D)`` and ``(N, D)``."""
    x, y = first.double(), second.double()
    kxx, kyy, kxy = (_kernel(a, b) for a, b in ((x, x), (y, y), (x, y)))
    m, n = len(x), len(y)
    within = (kxx.sum() - kxx.trace()) / (m * (m - 1)) + (kyy.sum() - kyy.trace()) / (n * (n - 1))
    return float(within - 2 * kxy.mean())


def kernel_distance(
    real: Tensor, fake: Tensor, *, subsets: int = 100, subset_size: int = 1000, seed: int = 2020
) -> KernelDistanceResult:
    """Return the distance over random subsets.

    Args:
        real: features ``(M, D)``.
        fake: features ``(N, D)``.
        subsets: how many.
        subset_size: pictures in each, without replacement.
        seed: of the draws.

    Raises:
        ShapeError: if a set is smaller than a subset, or a subset smaller than 2.
    """
    if not 2 <= subset_size <= min(len(real), len(fake)):
        raise ShapeError(
            f"subset_size={subset_size} given for sets of {len(real)} and {len(fake)} pictures; "
            "expected at least 2 and at most the smaller set"
        )
    draws = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        first, second = (
            rows[torch.from_numpy(draws.choice(len(rows), subset_size, replace=False))]
            for rows in (real, fake)
        )
        values.append(unbiased_mmd2(first, second))
    found = torch.tensor(values, dtype=torch.float64)
    return KernelDistanceResult(found.mean(), found.std(correction=0))


class KernelDistance(TwoSets):
    """KID of real and generated pictures.

    Args:
        features: from what ``update`` is given to ``(N, D)``; None if it is given features.
        subsets: how many are drawn.
        subset_size: pictures in each.
        seed: of the draws.
        options: of torchmetrics' ``Metric``.
    """

    higher_is_better = False

    def __init__(
        self,
        features: Features | None = None,
        *,
        subsets: int = 100,
        subset_size: int = 1000,
        seed: int = 2020,
        **options: Any,
    ) -> None:
        super().__init__(features, **options)
        self.subsets, self.subset_size, self.seed = subsets, subset_size, seed

    def compute(self) -> KernelDistanceResult:
        """Return mean and deviation.

        Raises:
            ShapeError: if a set is smaller than a subset.
        """
        real, fake = self.both()
        return kernel_distance(
            real, fake, subsets=self.subsets, subset_size=self.subset_size, seed=self.seed
        )


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


__all__ = ["KernelDistance", "KernelDistanceResult", "kernel_distance", "unbiased_mmd2"]
