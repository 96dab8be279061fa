from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import structural_similarity

from tessella.errors import ShapeError
from tessella.eval import ms_ssim, ms_ssim_of_floats, ssim, ssim_of_floats
from tessella.eval.ssim import most_scales


def pair(name: str, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A photograph's crop and a noisy copy, uint8 (1, 3, H, W)."""
    picture = getattr(data, name)()[50 : 50 + height, 60 : 60 + width]
    noise = np.random.default_rng(0).normal(0, 12, picture.shape)
    noisy = np.clip(picture + noise, 0, 255).astype(np.uint8)
    x, y = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None] for p in (noisy, picture))
    return x, y


@pytest.mark.parametrize("name", ["astronaut", "chelsea"])
def test_ssim_equals_scikit_image_with_the_original_window(name: str) -> None:
    x, y = pair(name, 70, 93)
    expected = structural_similarity(
        x[0].permute(1, 2, 0).numpy(),
        y[0].permute(1, 2, 0).numpy(),
        channel_axis=2,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(x, y).item() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_ms_ssim_agrees_with_torchmetrics(name: str) -> None:
    from torchmetrics.functional.image import (
        multiscale_structural_similarity_index_measure as reference,
    )

    x, y = pair(name, 208, 240)
    expected = reference(x.double(), y.double(), data_range=255.0).item()
    # torchmetrics pads the borders by reflection and averages channels before the powers
    assert ms_ssim(x, y).item() == pytest.approx(expected, abs=5e-4)


def test_identical_pictures_have_a_similarity_of_one() -> None:
    x, _ = pair("coffee", 170, 177)
    assert ssim(x, x).item() == pytest.approx(1, abs=1e-6)
    assert ms_ssim(x, x).item() == pytest.approx(1, abs=1e-6)


def test_pictures_of_a_batch_do_not_influence_each_other() -> None:
    pairs = [pair(name, 165, 171) for name in ("astronaut", "chelsea")]
    x, y = (torch.cat(side) for side in zip(*pairs, strict=True))
    for function in (ssim, ms_ssim):
        alone = torch.cat([function(a, b) for a, b in pairs])
        torch.testing.assert_close(function(x, y), alone, rtol=0, atol=1e-6)


def test_one_scale_is_ssim_and_all_terms_have_finite_gradients() -> None:
    x, y = pair("astronaut", 48, 48)
    x, y = x.double() / 255, y.double() / 255
    one = ms_ssim_of_floats(x, y, value_range=1.0, scales=1)
    torch.testing.assert_close(one, ssim_of_floats(x, y, value_range=1.0))
    inverted = (1 - y).requires_grad_()  # contrast is negative: clamped at the floor
    ms_ssim_of_floats(inverted, y, value_range=1.0, scales=3, floor=1e-4).sum().backward()
    assert inverted.grad is not None
    assert torch.isfinite(inverted.grad).all()


def test_gradient_is_that_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 1, 1, 21, 22, dtype=torch.float64, generator=generator)

    def loss(images: torch.Tensor) -> torch.Tensor:
        return ms_ssim_of_floats(images, y, value_range=1.0, scales=2, floor=1e-4)

    assert torch.autograd.gradcheck(loss, (x.requires_grad_(),), fast_mode=True)


@pytest.mark.parametrize(
    ("side", "scales"), [(10, 0), (11, 1), (96, 4), (128, 4), (160, 4), (161, 5)]
)
def test_number_of_scales_that_fit(side: int, scales: int) -> None:
    assert most_scales(side) == scales
    x = torch.zeros(1, 3, side, side)
    if scales:
        ms_ssim_of_floats(x, x, value_range=1.0, scales=scales)
    if scales < 5:
        with pytest.raises(ShapeError, match="at least"):
            ms_ssim_of_floats(x, x, value_range=1.0, scales=scales + 1)
