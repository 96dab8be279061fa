"""Fréchet distance of two sets of features (FID, arXiv 1706.08500): rFID, gFID, sFID by features.

::

    |m1 - m2|^2 + tr S1 + tr S2 - 2 sum_j Re sqrt(lambda_j(S1 S2))

in float64, with unbiased covariances; lambda are eigenvalues. The value
has a bias of about 1 / N: only equal N compare, customarily 50,000.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tessella.errors import CheckpointError, ShapeError
from tessella.eval.metrics.base import Features, StreamingMetric, feature_rows

_CUSTOMARY = 50_000


@dataclass(frozen=True, slots=True)
class FeatureStatistics:
    """Mean and covariance of a set of features.

    Args:
        mean: ``(D,)`` float64.
        covariance: ``(D, D)`` float64, unbiased.
        count: number of pictures; 0 if the file does not say.
    """

    mean: Tensor
    covariance: Tensor
    count: int = 0

    @classmethod
    def of(cls, features: Tensor) -> FeatureStatistics:
        """Return the statistics of features ``(N, D)``, N at least 2."""
        features = features.double()
        return cls(features.mean(dim=0), torch.cov(features.T), len(features))

    def save(self, path: str | Path) -> None:
        """Write an npz file with ``mu``, ``sigma`` and ``count``."""
        with Path(path).open("wb") as stream:
            np.savez(
                stream,
                mu=self.mean.cpu().numpy(),
                sigma=self.covariance.cpu().numpy(),
                count=np.int64(self.count),
            )

    @classmethod
    def load(cls, path: str | Path, *, spatial: bool = False) -> FeatureStatistics:
        """Read an npz file, ours or a published reference.

        Args:
            path: the file.
            spatial: read the features of sFID (``mu_s``, ``sigma_s``).

        Raises:
            CheckpointError: if the file cannot be read or lacks them.
        """
        suffix = "_s" if spatial else ""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                mean, covariance = (
                    torch.from_numpy(arrays[name + suffix].astype(np.float64))
                    for name in ("mu", "sigma")
                )
                count = int(arrays["count"]) if "count" in arrays else 0
        except (OSError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"statistics {path} cannot be read ({error}); expected an npz file with mu{suffix} "
                f"and sigma{suffix}"
            ) from error
        return cls(mean, covariance, count)


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """Return the distance of two Gaussians.

    Raises:
        ShapeError: if the numbers of features differ.
    """
    if first.mean.shape != second.mean.shape:
        raise ShapeError(
            f"statistics of {len(first.mean)} and {len(second.mean)} features given; expected the "
            "same extractor"
        )
    s1, s2 = first.covariance.double(), second.covariance.double()
    # eigenvalues are real and not negative, up to rounding: the published programs' form, whose
    # rounding of singular covariances (fewer pictures than features) its figures contain
    spectrum = torch.linalg.eigvals(s1 @ s2)
    shift = (first.mean - second.mean).double().square().sum()
    return float(shift + s1.trace() + s2.trace() - 2 * spectrum.sqrt().real.sum())


class FrechetDistance(StreamingMetric):
    """Fréchet distance of real and generated pictures, from running sums.

    Args:
        features: from what ``update`` is given to ``(N, D)``; None if it is given features.
        num_features: D.
        reference: statistics of the real set, which is then not to be given again.
        accept_few: allow fewer than ``2 D`` pictures, where the value says little.
        options: of torchmetrics' ``Metric``.
    """

    higher_is_better = False
    real_sum: Tensor
    real_outer: Tensor
    real_count: Tensor
    fake_sum: Tensor
    fake_outer: Tensor
    fake_count: Tensor

    def __init__(
        self,
        features: Features | None = None,
        *,
        num_features: int = 2048,
        reference: FeatureStatistics | None = None,
        accept_few: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.features, self.reference, self.accept_few = features, reference, accept_few
        for side in ("real", "fake"):
            self.add_sum(f"{side}_sum", num_features)
            self.add_sum(f"{side}_outer", num_features, num_features)
            self.add_sum(f"{side}_count")

    def update(self, pictures: Tensor, *, real: bool) -> None:
        """Add pictures, or their features ``(N, D)``.

        Raises:
            ShapeError: if the features have another size, or real ones come beside a reference.
        """
        rows = feature_rows(self.features, pictures).double()
        if rows.shape[1] != len(self.real_sum) or (real and self.reference is not None):
            raise ShapeError(
                f"features of shape {tuple(rows.shape)} given for the "
                f"{'real' if real else 'generated'} set; expected (N, {len(self.real_sum)}), and "
                "none for the real set where reference statistics are given"
            )
        if real:
            self.real_sum += rows.sum(dim=0)
            self.real_outer += rows.T @ rows
            self.real_count += len(rows)
        else:
            self.fake_sum += rows.sum(dim=0)
            self.fake_outer += rows.T @ rows
            self.fake_count += len(rows)

    def statistics(self, *, real: bool) -> FeatureStatistics:
        """Return mean and covariance of one set.

        Raises:
            ShapeError: if it has fewer than two pictures.
        """
        if real and self.reference is not None:
            return self.reference
        total, outer, number = (
            (self.real_sum, self.real_outer, self.real_count)
            if real
            else (self.fake_sum, self.fake_outer, self.fake_count)
        )
        count = int(number)
        if count < 2:
            raise ShapeError(f"{count} pictures in one of the sets; expected at least 2 in each")
        mean = total / count
        covariance = (outer - count * torch.outer(mean, mean)) / (count - 1)
        return FeatureStatistics(mean, covariance, count)

    def compute(self) -> Tensor:
        """Return the distance, a float64 scalar; warns below 50,000 pictures.

        Raises:
            ShapeError: if a set has fewer than ``2 D`` pictures, unless that was accepted.
        """
        real, fake = self.statistics(real=True), self.statistics(real=False)
        # published statistics do not say their number, which is large
        fewest = min(s.count for s in (real, fake) if s.count)
        if not self.accept_few:
            least = 2 * len(fake.mean)
            if fewest < least:
                raise ShapeError(
                    f"a set of {fewest} pictures given; a Fréchet distance of {len(fake.mean)} "
                    f"features needs at least {least} in each: accept_few=True computes it anyway"
                )
            if fewest < _CUSTOMARY:
                warnings.warn(
                    f"a Fréchet distance of {fewest} pictures compares only with others of as "
                    f"many; {_CUSTOMARY} are customary",
                    stacklevel=2,
                )
        return torch.tensor(frechet_distance(real, fake), dtype=torch.float64)


__all__ = ["FeatureStatistics", "FrechetDistance", "frechet_distance"]
