"""What is special about VAR's tokenizer: schedules, phi, and a picture from any first scales."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers.layers.phi import PhiConvolutions, phi_of_scale
from tessella.tokenizers.multiscale_vq import MultiScaleVQConfig, MultiScaleVQTokenizer
from tessella.tokenizers.registry import all_presets
from tessella.tokens import Tokens

TINY: MultiScaleVQConfig = all_presets()["multiscale-vq-tiny"][1].config


def _model(**changes: object) -> MultiScaleVQTokenizer:
    torch.manual_seed(0)
    model = MultiScaleVQTokenizer(replace(TINY, **changes)).eval()
    torch.nn.init.normal_(model.quantizer.codebook)
    return model


def _images(height: int = 32, width: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, height, width, generator=generator) * 2 - 1


def test_the_published_size() -> None:
    with torch.device("meta"):
        model = MultiScaleVQTokenizer(all_presets()["var-vq-f16"][1].config)
    parts = {"encoder": 44_107_872, "decoder": 64_653_923, "quantizer": 168_064}
    parts |= {"quant_conv": 9_248, "post_quant_conv": 9_248, "quantizer.phi": 36_992}
    for name, expected in parts.items():
        count = sum(p.numel() for p in model.get_submodule(name).parameters())
        assert count == expected, name
    assert sum(p.numel() for p in model.parameters()) == 108_948_355


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        (256, (1, 5, 14, 30, 55, 91, 155, 255, 424, 680)),
        (512, (1, 5, 14, 30, 66, 147, 316, 640, 1216, 2240)),
    ],
)
def test_published_schedules(size: int, counts: tuple[int, ...]) -> None:
    model = _model(multipliers=(1, 1, 1, 1, 1), sides=MultiScaleVQConfig().sides)
    layout = model.layout(size, size)
    found = np.cumsum([level.positions for level in layout.levels])
    np.testing.assert_array_equal(found, counts)
    assert layout.num_values == counts[-1]


@pytest.mark.parametrize(
    ("scales", "count", "expected"),
    [
        (10, 4, "0 0 1 1 1 2 2 3 3 3"),
        (14, 4, "0 0 0 1 1 1 1 2 2 2 2 3 3 3"),
        (13, 4, "0 0 0 1 1 1 2 2 2 2 3 3 3"),
        (10, 1, "0 0 0 0 0 0 0 0 0 0"),
        (10, 10, "0 1 2 3 4 5 6 7 8 9"),
    ],
)
def test_scales_share_the_published_convolutions(scales: int, count: int, expected: str) -> None:
    found = [phi_of_scale(k, scales, count) for k in range(scales)]
    assert found == [int(j) for j in expected.split()]


def test_phi_mixes_its_input_with_one_convolution(generator: torch.Generator) -> None:
    phi = PhiConvolutions(3, 2, 0.25)
    x = torch.randn(2, 3, 5, 4, generator=generator)
    for scale, conv in ((0, phi.convolutions[0]), (3, phi.convolutions[1])):
        torch.testing.assert_close(phi(x, scale, 4), 0.75 * x + 0.25 * conv(x))
    assert PhiConvolutions(3, 2, 0.0)(x, 0, 4) is x


def _by_hand(
    model: MultiScaleVQTokenizer, images: torch.Tensor
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Algorithm 1 of the paper, a scale at a time, with plain distances."""
    features = model.images_to_features(images)
    grids = model.grids(*images.shape[-2:])
    table = model.quantizer.codebook
    rest, total, levels = features, torch.zeros_like(features), []
    for k, grid in enumerate(grids):
        vectors = F.adaptive_avg_pool2d(rest, grid).permute(0, 2, 3, 1)
        indices = torch.cdist(vectors.double().flatten(0, 2), table.double()).argmin(dim=-1)
        codes = table[indices].view(*vectors.shape).permute(0, 3, 1, 2)
        up = F.interpolate(codes, grids[-1], mode="bicubic") if k < len(grids) - 1 else codes
        conv = model.quantizer.phi.convolutions[phi_of_scale(k, len(grids), TINY.phis)]
        added = 0.5 * up + 0.5 * conv(up)
        rest, total = rest - added, total + added
        levels.append(indices.view(*vectors.shape[:3], 1))
    return levels, total


@torch.inference_mode()
@pytest.mark.parametrize("size", [(32, 32), (32, 48)])
def test_indices_are_those_of_the_plain_algorithm(size: tuple[int, int]) -> None:
    model, images = _model(), _images(*size)
    levels, total = _by_hand(model, images)
    tokens = model.encode(images)
    for ours, theirs in zip(tokens.levels, levels, strict=True):
        assert torch.equal(ours, theirs)
    grids = model.grids(*size)
    torch.testing.assert_close(model.levels_to_features(levels, grids), total, atol=1e-4, rtol=0)
    picture = model.features_to_images(total).clamp(-1, 1)
    torch.testing.assert_close(model.decode(tokens), picture, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_features_of_a_pyramid_are_the_sum_of_its_scales() -> None:
    model = _model()
    tokens = model.encode(_images())
    grids = model.grids(32, 32)
    total = torch.zeros(2, TINY.code_dim, *grids[-1])
    for k, level in enumerate(tokens.levels):
        total = total + model.quantizer.lift(model.quantizer.indices_to_codes(level), k, grids)
        first = tokens.truncate(levels=k + 1)
        torch.testing.assert_close(model.levels_to_features(first.levels, grids), total)
        picture = model.features_to_images(total).clamp(-1, 1)
        torch.testing.assert_close(model.decode(first), picture)


@torch.inference_mode()
def test_the_codebook_is_interpolated_before_phi_and_not_after() -> None:
    model = _model(phis=1)
    grids = model.grids(32, 32)
    conv = model.quantizer.phi.convolutions[0]
    codes = torch.randn(1, 2, 2, TINY.code_dim)
    small = codes.permute(0, 3, 1, 2)
    before = F.interpolate(small, grids[-1], mode="bicubic")
    after = F.interpolate(0.5 * small + 0.5 * conv(small), grids[-1], mode="bicubic")
    lifted = model.quantizer.lift(codes, 1, grids)
    torch.testing.assert_close(lifted, 0.5 * before + 0.5 * conv(before))
    assert not torch.allclose(lifted, after, atol=1e-3)


@torch.inference_mode()
def test_cosine_compares_directions_and_adds_codes_as_they_are() -> None:
    model = _model(cosine=True)
    tokens = model.encode(_images())
    codes = model.quantizer.indices_to_codes(tokens.levels[-1])
    lengths = codes.norm(dim=-1)
    assert float(lengths.max() - lengths.min()) > 0.1  # not normalised
    features = model.images_to_features(_images())
    first = F.normalize(features.mean(dim=(2, 3)), dim=-1)
    table = F.normalize(model.quantizer.codebook, dim=-1)
    assert torch.equal(tokens.levels[0].flatten(), (first @ table.T).argmax(dim=-1))


def test_half_precision_keeps_the_codebook_and_what_tokens_mean() -> None:
    model, half = _model(), _model().to(torch.bfloat16)
    assert half.space_id == model.space_id
    assert {p.dtype for p in half.quantizer.parameters()} == {torch.float32}
    assert bool(torch.isfinite(half.decode(model.encode(_images()))).all())


def test_what_does_not_fit_is_refused() -> None:
    model = _model()
    features = torch.zeros(1, TINY.code_dim, 4, 4)
    with pytest.raises(ShapeError, match="the last scale to be as large as the features"):
        model.quantizer(features, [(1, 1), (2, 2)])
    with pytest.raises(ShapeError, match=r"expected \(\.\.\., 1\) from 0 to 31"):
        model.quantizer.indices_to_codes(torch.full((1, 1, 1, 1), 32))
    grids = model.grids(32, 32)
    with pytest.raises(ShapeError, match=r"codes .* of scale 1 given"):
        model.next_scale(model.empty_total(1, grids), torch.zeros(1, 4, 4, 1).long(), 1, grids)
    tokens = model.encode(_images())
    with pytest.raises(ShapeError, match="level 1"):
        levels = (tokens.levels[0], tokens.levels[2])
        layout = replace(tokens.layout, levels=(tokens.layout.levels[0], tokens.layout.levels[2]))
        model.decode(Tokens(levels, layout))
    for changes, message in (
        ({"sides": ()}, "at least one schedule"),
        ({"sides": ((4, 2),)}, "grids that grow"),
        ({"kernel": 2}, "odd size"),
        ({"multipliers": (2, 2)}, "first to be 1"),
        ({"channels": 10}, "multiple of the groups"),
    ):
        with pytest.raises(ConfigError, match=message):
            replace(TINY, **changes)
