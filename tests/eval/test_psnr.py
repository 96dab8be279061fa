from __future__ import annotations

import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from tessella.errors import ShapeError
from tessella.eval import mean_psnr, psnr, to_uint8


def pixels(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def test_psnr_equals_scikit_image() -> None:
    x, y = pixels(0, 3, 3, 17, 23), pixels(1, 3, 3, 17, 23)
    expected = [
        peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=255)
        for a, b in zip(x, y, strict=True)
    ]
    torch.testing.assert_close(psnr(y, x), torch.tensor(expected, dtype=torch.float64))


def test_identical_pictures_are_infinite_and_count_as_100_db() -> None:
    x = pixels(0, 2, 3, 8, 8)
    y = x.clone()
    y[1] = y[1] ^ 1  # every value one off: 20 log10(255)
    values = psnr(y, x)
    assert values[0] == math.inf
    assert mean_psnr(values) == pytest.approx((100 + 20 * math.log10(255)) / 2)


def test_rounding_is_to_the_nearest_level_and_clips() -> None:
    levels = torch.arange(256)
    images = levels / 127.5 - 1
    assert torch.equal(to_uint8(images), levels.to(torch.uint8))
    assert torch.equal(to_uint8(images + 0.4 / 127.5), levels.to(torch.uint8))
    ends = torch.tensor([-1.3, 1.3, -1.0, 1.0])
    assert to_uint8(ends).tolist() == [0, 255, 0, 255]


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(1, 3, 4, 5, dtype=torch.uint8)),
    ],
)
def test_floats_and_unlike_shapes_are_refused(x: torch.Tensor, y: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match="expected"):
        psnr(x, y)


def test_pixels_are_not_rounded_twice() -> None:
    with pytest.raises(ShapeError, match="floats"):
        to_uint8(pixels(0, 1, 3, 4, 4))
