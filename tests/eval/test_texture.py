"""Co-occurrence and the variants of PSNR and SSIM against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data
from skimage.feature import graycomatrix, graycoprops
from skimage.measure import shannon_entropy
from skimage.metrics import structural_similarity

from tessella.errors import ShapeError
from tessella.eval.glcm import co_occurrence, entropy, grey_levels, patches, properties, score
from tessella.eval.luminance import psnr_y, uniform_ssim
from tessella.eval.metrics import CompressionRatio, GLCMScore

ANGLES = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]


def astronaut(height: int = 70, width: int = 130) -> torch.Tensor:
    picture = data.astronaut()[60 : 60 + height, 80 : 80 + width]
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)


def test_co_occurrence_equals_scikit_image() -> None:
    (row,) = patches(grey_levels(astronaut()))
    assert len(row) == 2
    for patch in row:
        ours = co_occurrence(patch)
        theirs = graycomatrix(patch, [1, 2, 3, 4], ANGLES, levels=64, normed=True)
        np.testing.assert_array_equal(ours, theirs)
        assert score(ours) == pytest.approx(shannon_entropy(theirs), abs=1e-12)
        for name, value in properties(ours).items():
            expected = np.round(graycoprops(theirs, name), 4).mean()
            assert value == pytest.approx(expected, abs=1e-5)


def test_a_flat_patch_has_no_entropy() -> None:
    matrices = co_occurrence(np.full((64, 64), 7, dtype=np.uint8))
    assert entropy(matrices) == 0
    assert score(matrices) == pytest.approx(0.0033, abs=5e-5)
    assert properties(matrices)["correlation"] == 1


def test_metrics_of_texture() -> None:
    picture = astronaut()[None]
    metric = GLCMScore()
    metric.update(torch.cat([picture, picture]))
    assert 0.4 < float(metric.compute().score) < 3.5
    assert 3 < float(metric.compute().entropy) < 10
    ratio = CompressionRatio()
    ratio.update(picture)
    flat = CompressionRatio()
    flat.update(torch.full_like(picture, 90))
    assert 1 < float(ratio.compute()) < float(flat.compute())
    with pytest.raises(ShapeError, match="2 sizes"):
        ratio.update(picture, [1, 2])
    with pytest.raises(ShapeError, match="64 x 64"):
        metric.update(picture[:, :, :63])
    with pytest.raises(ShapeError, match="uint8"):
        metric.update(picture.float())


def test_uniform_ssim_is_scikit_images_default() -> None:
    x = astronaut(40, 50)
    noise = np.random.default_rng(0).integers(-20, 20, x.shape)
    y = torch.from_numpy(np.clip(x.numpy().astype(int) + noise, 0, 255).astype(np.uint8))
    arrays = [v.permute(1, 2, 0).numpy() for v in (y, x)]
    for value_range in (255, 510):
        theirs = structural_similarity(*arrays, channel_axis=2, data_range=value_range)
        ours = uniform_ssim(y[None], x[None], value_range=value_range)
        assert float(ours) == pytest.approx(theirs, abs=1e-9)
    with pytest.raises(ShapeError, match="at least 7"):
        uniform_ssim(y[None, :, :6], x[None, :, :6])


def test_studio_brightness_reads_higher_by_its_range() -> None:
    x = astronaut(16, 16)[None]
    y = 255 - x
    difference = float(psnr_y(y, x, scale="studio") - psnr_y(y, x))
    assert difference == pytest.approx(20 * np.log10(255 / 219), abs=1e-2)
