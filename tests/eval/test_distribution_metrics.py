"""Distances of two sets of pictures against closed forms and plain loops."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tessella.errors import CheckpointError, ConfigError, ShapeError
from tessella.eval.metrics import (
    CMMD,
    FeatureStatistics,
    FrechetDistance,
    InceptionScore,
    KernelDistance,
    PrecisionRecall,
    frechet_distance,
)
from tessella.eval.metrics.cmmd import clip_input
from tessella.eval.metrics.kernel import unbiased_mmd2


def gaussian(seed: int, count: int, mean: Tensor, root: Tensor) -> Tensor:
    """Features whose sample mean and covariance are exactly ``mean`` and ``root root^T``."""
    noise = torch.randn(
        count, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    noise = noise - noise.mean(dim=0)
    whitened = noise @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(noise.T))).T
    return whitened @ root.T + mean


def sets(size: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    real = torch.randn(70, size, generator=generator)
    return real, 0.8 * torch.randn(55, size, generator=generator) + 0.3


def test_frechet_distance_of_gaussians_is_the_closed_form() -> None:
    size = 12
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    a, b = torch.rand(2, size, generator=generator, dtype=torch.float64) + 0.2
    m1, m2 = torch.randn(2, size, generator=generator, dtype=torch.float64)
    # covariances of one basis commute: the trace is a sum over deviations
    expected = (m1 - m2).square().sum() + (a - b).square().sum()
    metric = FrechetDistance(num_features=size, accept_few=True)
    metric.update(gaussian(1, 500, m1, basis * a), real=True)
    metric.update(gaussian(2, 300, m2, basis * b), real=False)
    assert float(metric.compute()) == pytest.approx(float(expected), abs=1e-4)


def test_frechet_distance_of_drawn_gaussians_agrees_with_scipy() -> None:
    from scipy.linalg import sqrtm

    real, fake = (rows.double() for rows in sets())
    first, second = FeatureStatistics.of(real), FeatureStatistics.of(fake)
    s1, s2 = np.cov(real.numpy().T), np.cov(fake.numpy().T)
    difference = real.mean(0).numpy() - fake.mean(0).numpy()
    expected = difference @ difference + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-10)


def test_frechet_distance_of_few_pictures_is_near_its_exact_value() -> None:
    real, fake = (rows.double() for rows in sets(40))
    few, fewer = FeatureStatistics.of(real[:9]), FeatureStatistics.of(fake[:6])
    # exactly: the trace is the nuclear norm of the product of centred rows
    rows = [part - part.mean(dim=0) for part in (real[:9], fake[:6])]
    norm = torch.linalg.svdvals(rows[0] @ rows[1].T).sum() / (8 * 5) ** 0.5
    shift = (few.mean - fewer.mean).square().sum()
    expected = float(shift + few.covariance.trace() + fewer.covariance.trace() - 2 * norm)
    assert frechet_distance(few, fewer) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(fewer, few) == pytest.approx(expected, rel=1e-6)


def test_few_pictures_are_refused_or_warned_of() -> None:
    real, fake = sets()
    metric = FrechetDistance(num_features=8)
    metric.update(real[:10], real=True)
    metric.update(fake, real=False)
    with pytest.raises(ShapeError, match="at least 16"):
        metric.compute()
    metric.update(real[10:], real=True)
    with pytest.warns(UserWarning, match="50000 are customary"):
        value = metric.compute()
    accepting = FrechetDistance(num_features=8, accept_few=True)
    accepting.update(real, real=True)
    accepting.update(fake, real=False)
    assert float(accepting.compute()) == pytest.approx(float(value), rel=1e-9)
    with pytest.raises(ShapeError, match="expected \\(N, 8\\)"):
        metric.update(real[:, :5], real=True)


def test_reference_statistics_stand_in_for_the_real_set(tmp_path: Path) -> None:
    real, fake = sets()
    whole = FrechetDistance(num_features=8, accept_few=True)
    whole.update(real, real=True)
    whole.update(fake, real=False)
    whole.statistics(real=True).save(tmp_path / "a.npz")
    reference = FeatureStatistics.load(tmp_path / "a.npz")
    assert reference.count == len(real)
    metric = FrechetDistance(num_features=8, reference=reference, accept_few=True)
    metric.update(fake, real=False)
    assert float(metric.compute()) == pytest.approx(float(whole.compute()), rel=1e-12)
    with pytest.raises(ShapeError, match="none for the real set"):
        metric.update(real, real=True)
    with pytest.raises(CheckpointError, match="mu_s"):
        FeatureStatistics.load(tmp_path / "a.npz", spatial=True)


def test_kernel_distance_equals_loops() -> None:
    real, fake = sets()
    x, y = real.double().numpy(), fake.double().numpy()

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / len(a) + 1) ** 3

    m, n = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    xy = sum(kernel(a, b) for a in x for b in y) / (m * n)
    assert unbiased_mmd2(real, fake) == pytest.approx(xx + yy - 2 * xy, rel=1e-10)
    metric = KernelDistance(subsets=3, subset_size=20)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    found = metric.compute()
    assert found.mean > 0
    assert metric.compute() == found  # draws are seeded
    with pytest.raises(ShapeError, match="subset_size"):
        failing = KernelDistance(subset_size=56)
        failing.update(real, real=True)
        failing.update(fake, real=False)
        failing.compute()


@pytest.mark.parametrize(("k", "border"), [(1, True), (3, True), (5, False)])
def test_neighbours_equal_loops(k: int, border: bool) -> None:
    real, fake = (rows.double().numpy() for rows in sets(3))

    def radius(rows: np.ndarray, i: int) -> float:
        others = [np.linalg.norm(rows[i] - rows[j]) for j in range(len(rows)) if j != i]
        return sorted(others)[k - 1]

    of_real = [radius(real, i) for i in range(len(real))]
    of_fake = [radius(fake, j) for j in range(len(fake))]
    distance = [[float(np.linalg.norm(f - r)) for r in real] for f in fake]
    # no distance equals a radius of the other set here, so the border does not matter
    inside = [[d < of_real[i] for i, d in enumerate(row)] for row in distance]
    expected = (
        np.mean([any(row) for row in inside]),
        np.mean(
            [any(distance[j][i] < of_fake[j] for j in range(len(fake))) for i in range(len(real))]
        ),
        np.mean([sum(row) / k for row in inside]),
        np.mean([any(row[i] for row in inside) for i in range(len(real))]),
    )
    metric = PrecisionRecall(k=k, includes_border=border)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    assert [float(v) for v in metric.compute()] == pytest.approx(expected, abs=1e-12)


def test_neighbours_of_equal_sets_are_perfect_and_need_a_neighbour() -> None:
    real, _ = sets()
    metric = PrecisionRecall()
    metric.update(real, real=True)
    metric.update(real.clone(), real=False)
    found = metric.compute()
    assert found.precision == found.recall == found.coverage == 1
    few = PrecisionRecall(k=3)
    few.update(real[:3], real=True)
    few.update(real, real=False)
    with pytest.raises(ShapeError, match="k=3"):
        few.compute()


def test_cmmd_equals_loops() -> None:
    real, fake = (rows.double().numpy() for rows in sets(4))
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (real, fake))

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([[math.exp(-((p - q) ** 2).sum() / 200) for q in b] for p in a]))

    metric = CMMD()
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    expected = 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))
    assert float(metric.compute()) == pytest.approx(expected, abs=1e-9)


def test_input_of_clip_is_a_normalised_centre_square() -> None:
    from PIL import Image

    picture = Image.new("RGB", (50, 30), (255, 255, 255))
    picture.paste((0, 0, 0), (0, 0, 10, 30))
    picture.paste((0, 0, 0), (40, 0, 50, 30))
    values = clip_input([picture], 16)
    assert values.shape == (1, 3, 16, 16)
    assert torch.allclose(values[0, 0], torch.tensor((1 - 0.48145466) / 0.26862954))


def test_inception_score_has_its_bounds() -> None:
    certain = 100 * torch.eye(10).repeat(4, 1)
    metric = InceptionScore(splits=1)
    metric.update(certain)
    assert float(metric.compute().mean) == pytest.approx(10)
    same = InceptionScore(splits=4)
    same.update(torch.randn(1, 10, generator=torch.Generator().manual_seed(0)).repeat(40, 1))
    assert float(same.compute().mean) == pytest.approx(1)
    with pytest.raises(ShapeError, match="3 pictures"):
        few = InceptionScore(splits=4)
        few.update(certain[:3])
        few.compute()
    with pytest.raises(ConfigError, match="splits"):
        InceptionScore(splits=0)


def test_metrics_compute_features_themselves() -> None:
    def features(pixels: Tensor) -> Tensor:
        return pixels.float().mean(dim=(2, 3))

    pixels = torch.randint(
        0, 256, (9, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    metric = FrechetDistance(features, num_features=3, accept_few=True)
    metric.update(pixels, real=True)
    metric.update(pixels, real=False)
    assert float(metric.compute()) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ShapeError, match="a function from pictures"):
        KernelDistance().update(pixels, real=True)
