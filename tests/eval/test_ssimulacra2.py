"""SSIMULACRA2 against the package of that name and the recursion that its blur stands for."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.signal import lfilter
from skimage import data

from tessella.errors import ShapeError
from tessella.eval.ssimulacra2 import blur, linear_light, positive_xyb, ssimulacra2

Pixels = NDArray[np.uint8]


def _photograph(width: int = 211, height: int = 157) -> Pixels:
    part: Pixels = np.ascontiguousarray(data.astronaut()[20 : 20 + height, 130 : 130 + width])
    return part


def _jpeg(pixels: Pixels, quality: int) -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.array(Image.open(stream))


def _batch(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()


def _score(pixels: Pixels, original: Pixels) -> float:
    return float(ssimulacra2(_batch(pixels), _batch(original)))


def _recursive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Filter the first axis: three second-order recursions, zeros outside (libjxl's constants)."""
    radius, sigma = 5, 1.5
    omega = [math.pi / (2 * radius) * k for k in (1, 3, 5)]
    p = [1 / math.tan(omega[0] / 2), -1 / math.tan(omega[1] / 2), 1 / math.tan(omega[2] / 2)]
    r = [p[0] ** 2 / math.sin(omega[0]), -(p[1] ** 2) / math.sin(omega[1]),
         p[2] ** 2 / math.sin(omega[2])]  # fmt: skip
    rho = [math.exp(-0.5 * sigma**2 * w**2) / radius for w in omega]
    d13 = p[0] * r[1] - r[0] * p[1]
    zeta15 = (p[1] * r[2] - r[1] * p[2]) / d13
    zeta35 = (p[2] * r[0] - r[2] * p[0]) / d13
    gamma = [1.0, radius**2 - sigma**2, zeta15 * rho[0] + zeta35 * rho[1] + rho[2]]
    beta = np.linalg.inv([p, r, [zeta15, zeta35, 1.0]]) @ gamma
    count = len(values)
    padded = np.concatenate([values, np.zeros((2 * radius, *values.shape[1:]))])
    total = np.zeros_like(padded)
    for w, b in zip(omega, beta, strict=True):
        numerator = np.zeros(2 * radius + 1)
        numerator[0] = numerator[2 * radius] = -b * math.cos(w * (radius + 1))
        total += lfilter(numerator, [1, -2 * math.cos(w), 1], padded, axis=0)
    return total[radius - 1 : radius - 1 + count]


def test_the_blur_is_the_recursion() -> None:
    values = np.random.default_rng(0).uniform(size=(33, 21, 2))
    expected = _recursive(_recursive(values).swapaxes(0, 1)).swapaxes(0, 1)
    ours = blur(torch.from_numpy(values).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    assert np.allclose(ours, expected, atol=1e-9)
    flat = blur(torch.ones(1, 1, 30, 30, dtype=torch.float64))
    assert flat[0, 0, 15, 15].item() == pytest.approx(1, abs=1e-3)


def test_colours_are_the_packages() -> None:
    package = pytest.importorskip("ssimulacra2.ssimulacra2")
    pixels = _photograph()
    theirs = package.make_positive_xyb(package.linear_rgb_to_xyb(package.srgb_to_linear(pixels)))
    ours = positive_xyb(linear_light(_batch(pixels)))[0].permute(2, 1, 0).numpy()
    assert np.allclose(ours, theirs, atol=2e-5)
    assert ours.min() > 0


@pytest.mark.parametrize("quality", [3, 60, 95])
def test_scores_are_the_packages(
    quality: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = pytest.importorskip("ssimulacra2.ssimulacra2")
    original = _photograph(285, 259)  # it leaves out scales of less than eight pixels
    pixels = _jpeg(original, quality)
    paths = [str(tmp_path / name) for name in ("original.png", "other.png")]
    for path, picture in zip(paths, (original, pixels), strict=True):
        Image.fromarray(picture).save(path)
    ours = _score(pixels, original)
    # unlike libjxl it mirrors two of the borders, which matters on small pictures
    assert ours == pytest.approx(package.compute_ssimulacra2(*paths), abs=5.0)

    def libjxls(image: NDArray[np.float64], sigma: float = 1.5) -> NDArray[np.float64]:
        return _recursive(_recursive(image).swapaxes(0, 1)).swapaxes(0, 1)

    monkeypatch.setattr(package, "blur_image", libjxls)
    assert ours == pytest.approx(package.compute_ssimulacra2(*paths), abs=0.02)


def test_more_quality_scores_higher() -> None:
    original = _photograph()
    scores = [_score(_jpeg(original, quality), original) for quality in (2, 10, 30, 60, 90, 98)]
    assert scores == sorted(scores)
    assert scores[-1] < _score(original, original) == 100
    assert _score(255 - original, original) < 0


def test_each_picture_of_a_batch_by_itself() -> None:
    original = _photograph()
    pair = [_jpeg(original, 10), _jpeg(original, 70)]
    batch = torch.cat([_batch(pixels) for pixels in pair])
    scores = ssimulacra2(batch, _batch(original).expand(2, -1, -1, -1))
    assert scores.dtype == torch.float64
    assert scores.tolist() == pytest.approx([_score(p, original) for p in pair], abs=1e-4)


def test_what_is_refused() -> None:
    small = _batch(_photograph(112, 140))
    with pytest.raises(ShapeError, match="at least 113"):
        ssimulacra2(small, small)
    grey = torch.zeros(1, 1, 128, 128, dtype=torch.uint8)
    with pytest.raises(ShapeError, match="three channels"):
        ssimulacra2(grey, grey)
    with pytest.raises(ShapeError, match="uint8"):
        ssimulacra2(grey.float(), grey.float())
