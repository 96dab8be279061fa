"""Scalar latents: qualities, gains, missing slices, tiles."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tiny_model import photograph

from tessella.errors import ConfigError, ShapeError
from tessella.images import from_pixels
from tessella.tokenizers.registry import all_presets
from tessella.tokenizers.scalar_latent import (
    QUALITIES,
    ScalarLatentConfig,
    ScalarLatentTokenizer,
    ScaledLatents,
    rounded,
)
from tessella.tokenizers.tiling import decode_tiled, encode_tiled


def _crops() -> torch.Tensor:
    picture = photograph()
    crops = [picture[y : y + 64, x : x + 64] for y in range(0, 256, 64) for x in range(0, 256, 64)]
    return torch.cat([from_pixels(np.ascontiguousarray(crop)) for crop in crops])


@pytest.fixture(scope="module")
def model() -> ScalarLatentTokenizer:
    family, preset = all_presets()["scalar-latent-tiny"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = family.model_class(preset.config)
    assert isinstance(model, ScalarLatentTokenizer)
    model.initialize(_crops())
    return model.eval()


def test_higher_qualities_have_larger_numbers_and_smaller_errors(
    model: ScalarLatentTokenizer,
) -> None:
    images = _crops()[:4]
    errors, sizes = [], []
    for quality in (0, 30, 60, 99):
        tokens = model.encode(images, quality=quality)
        assert set(tokens.levels[0].flatten().tolist()) == {quality}
        errors.append(float((model.decode(tokens) - images).square().mean()))
        latents = torch.cat([level.flatten() for level in tokens.levels[2:]]) - 2048
        sizes.append(float(latents.abs().sum()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.9 * errors[0]  # twelve components of 768 leave the rest of the error
    assert sizes == sorted(sizes)


def test_quality_may_be_bound_before(model: ScalarLatentTokenizer) -> None:
    images = _crops()[:1]
    assert model.at_quality(7).encode(images) == model.encode(images, quality=7)
    assert model.encode(images) == model.encode(images, quality=50)
    for quality in (-1, QUALITIES):
        with pytest.raises(ShapeError, match="expected 0 to 99"):
            model.encode(images, quality=quality)


def test_gains_are_geometric_between_points(model: ScalarLatentTokenizer) -> None:
    images = _crops()[:1]
    qualities = torch.tensor([0.0, 24.75, 49.5])  # the first of three points, the middle, the next
    found = [model.scaled_latents(images, q.view(1, 1, 1)).latents for q in qualities]
    assert torch.allclose(found[1], (found[0] * found[2]).sqrt() * found[0].sign(), rtol=1e-4)


def test_a_map_of_qualities_acts_cell_by_cell(model: ScalarLatentTokenizer) -> None:
    images = torch.cat([_crops()[:1], _crops()[1:2]], dim=3)
    maps = torch.tensor([[[10, 90]]])
    mixed = model.scaled_latents(images, maps).latents
    low = model.scaled_latents(images, torch.tensor([[[10]]])).latents
    high = model.scaled_latents(images, torch.tensor([[[90]]])).latents
    assert torch.equal(mixed[..., :4], low[..., :4])
    assert torch.equal(mixed[..., 4:], high[..., 4:])


def test_missing_slices_cost_quality_only(model: ScalarLatentTokenizer) -> None:
    images = _crops()[:4]
    tokens = model.encode(images, quality=80)
    errors = [
        float((model.decode(tokens.truncate(levels=count)) - images).square().mean())
        for count in range(1, len(tokens.levels) + 1)
    ]
    assert errors[0] == errors[1] > errors[2] > errors[3]


def test_rounding_is_bounded_and_passes_gradients() -> None:
    x = torch.tensor([[[[-9e3, -0.4, 0.6, 9e3]]]], requires_grad=True)
    latents, hyper = rounded(ScaledLatents(x, x))
    assert latents.flatten().tolist() == [-2048, 0, 1, 2047]
    assert hyper.flatten().tolist() == [-64, 0, 1, 63]
    latents.sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [1, 1, 1, 1]


def test_tiles_give_what_the_whole_gives(model: ScalarLatentTokenizer) -> None:
    model = copy.deepcopy(model)
    with torch.no_grad():  # leave the start at which the network beside the linear path is zero
        generator = torch.Generator().manual_seed(0)
        for parameter in (*model.analysis.parameters(), *model.synthesis.parameters()):
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    picture = np.tile(photograph(), (3, 2, 1))[:700, :400]
    whole = model.encode(from_pixels(picture))
    tiled = encode_tiled(model, picture, tile=2 * model.halo + 64)
    assert whole.layout == tiled.layout
    for ours, theirs in zip(whole.levels, tiled.levels, strict=True):
        # other shapes may take other kernels: a value on the edge of rounding may fall either way
        assert float((ours != theirs).float().mean()) < 1e-3
    pixels = decode_tiled(model, whole, tile=2 * model.halo + 64).astype(int)
    expected = decode_tiled(model, whole).astype(int)
    assert np.abs(pixels - expected).max() <= 1


def test_other_numbers_of_scales_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected three numbers"):
        ScalarLatentConfig(widths=(8, 8))
    with pytest.raises(ConfigError, match="points=1 given"):
        ScalarLatentConfig(points=1)
