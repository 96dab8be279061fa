"""What is special about Infinity's tokenizer: bits, aspect ratios, patches, self-correction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers.infinity_schedules import (
    LENGTHS,
    TEMPLATES,
    infinity_schedule,
    template_ratio,
)
from tessella.tokenizers.multiscale_bsq import MultiScaleBSQConfig, MultiScaleBSQTokenizer
from tessella.tokenizers.registry import all_presets

TINY: MultiScaleBSQConfig = all_presets()["multiscale-bsq-tiny"][1].config

# tokens of the four schedules of each ratio of height to width
TOKENS = {
    1.0: (521, 2521, 6425, 10521),
    1.25: (614, 2814, 6854, 10774),
    1.333: (665, 2657, 7085, 10973),
    1.5: (533, 2759, 6941, 10997),
    1.75: (472, 2628, 7220, 11252),
    2.0: (451, 2681, 7219, 11269),
    2.5: (555, 2555, 6805, 10805),
    3.0: (509, 2588, 7016, 11123),
}


def _model(**changes: object) -> MultiScaleBSQTokenizer:
    torch.manual_seed(0)
    return MultiScaleBSQTokenizer(replace(TINY, **changes)).eval()


def _images(height: int = 32, width: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, height, width, generator=generator) * 2 - 1


@pytest.mark.parametrize(
    ("preset", "stride", "bits"),
    [
        ("infinity-bsq-f16-d16", 16, 521 * 16),
        ("infinity-bsq-f16-d24", 16, 521 * 24),
        ("infinity-bsq-f16-d32", 16, 521 * 32),
        ("infinity-bsq-f16-d64", 16, 521 * 64),
        ("infinity-bsq-f16-d32reg", 16, 521 * 32),
        ("infinity-bsq-f8-d14-patchify", 16, 521 * 56),
    ],
)
def test_published_sizes(preset: str, stride: int, bits: int) -> None:
    config = all_presets()[preset][1].config
    with torch.device("meta"):
        model = MultiScaleBSQTokenizer(config)
    assert model.stride == stride
    assert sum(p.numel() for p in model.quantizer.parameters()) == 0
    assert not any("attentions" in name for name, _ in model.named_parameters())
    small = MultiScaleBSQTokenizer(replace(config, channels=32))  # the same layout, to be hashed
    assert small.layout(256, 256).bits == bits


@pytest.mark.parametrize("ratio", TOKENS)
def test_published_schedules_of_an_aspect_ratio(ratio: float) -> None:
    grids = TEMPLATES[ratio]
    for length, tokens in zip(LENGTHS.values(), TOKENS[ratio], strict=True):
        schedule = grids[:length]
        assert sum(h * w for h, w in schedule) == tokens
        assert template_ratio(schedule[-1]) == ratio
        assert infinity_schedule(schedule[-1]) == schedule
        lying = tuple((w, h) for h, w in schedule)
        assert infinity_schedule(lying[-1]) == lying


def test_inverse_ratios_are_truncated_to_three_decimals() -> None:
    below = sorted(ratio for ratio in TEMPLATES if ratio < 1)
    assert below == [0.333, 0.4, 0.5, 0.571, 0.666, 0.75, 0.8]


@pytest.mark.parametrize("grid", [(1, 1), (1, 7), (5, 3), (16, 17), (100, 31)])
def test_schedules_of_other_grids_grow_to_the_grid(grid: tuple[int, int]) -> None:
    schedule = infinity_schedule(grid)
    assert schedule[-1] == grid
    assert len(set(schedule)) == len(schedule)
    heights, widths = zip(*schedule, strict=True)
    assert sorted(heights) == list(heights)
    assert sorted(widths) == list(widths)


def _by_hand(
    features: torch.Tensor, grids: list[tuple[int, int]]
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The loop over scales with plain signs."""
    rest, total, levels = features, torch.zeros_like(features), []
    for k, grid in enumerate(grids):
        small = F.adaptive_avg_pool2d(rest, grid) if k < len(grids) - 1 else rest
        bits = small > 0
        codes = (2 * bits.float() - 1) / features.shape[1] ** 0.5
        up = F.interpolate(codes, grids[-1], mode="bilinear") if k < len(grids) - 1 else codes
        rest, total = rest - up, total + up
        levels.append(bits.permute(0, 2, 3, 1).long())
    return levels, total


@torch.inference_mode()
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize("is_patchified", [False, True])
def test_bits_are_the_signs_of_what_is_left(size: tuple[int, int], is_patchified: bool) -> None:
    model, images = _model(is_patchified=is_patchified, schedule=()), _images(*size)
    grids = model.grids(*size)
    levels, total = _by_hand(model.images_to_features(images), list(model.fine(grids)))
    tokens = model.encode(images)
    for ours, theirs in zip(tokens.levels, levels, strict=True):
        assert torch.equal(model.split(ours), theirs)
    found = model.levels_to_features(tokens.levels, grids)
    torch.testing.assert_close(found, total, atol=1e-5, rtol=0)
    picture = model.features_to_images(total).clamp(-1, 1)
    torch.testing.assert_close(model.decode(tokens), picture, atol=1e-5, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize("is_patchified", [False, True])
def test_every_first_part_of_a_pyramid_decodes_to_the_sum_of_its_scales(
    is_patchified: bool,
) -> None:
    model = _model(is_patchified=is_patchified, schedule=())
    tokens, grids = model.encode(_images()), model.grids(32, 32)
    total = model.empty_total(2, grids)
    for k, level in enumerate(tokens.levels):
        total = model.next_scale(total, level, k, grids).total
        picture = model.features_to_images(total).clamp(-1, 1)
        torch.testing.assert_close(model.decode(tokens.truncate(levels=k + 1)), picture)


def test_merged_positions_are_pixel_unshuffling() -> None:
    model = _model(is_patchified=True)
    maps = torch.randn(2, 3, 4, 6)
    merged = model.merged(maps.permute(0, 2, 3, 1))
    expected = F.pixel_unshuffle(maps, 2).permute(0, 2, 3, 1)
    assert torch.equal(merged, expected)
    assert torch.equal(model.split(merged), maps.permute(0, 2, 3, 1))


def test_codes_have_unit_length_and_a_position_has_a_bit_a_channel() -> None:
    model = _model()
    layout = model.layout(32, 32)
    assert all(level.vocab_sizes == (2,) * TINY.code_dim for level in layout.levels)
    bits = model.encode(_images()).levels[-1]
    lengths = model.quantizer.indices_to_codes(bits).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


@torch.inference_mode()
def test_later_scales_are_the_bits_of_what_flips_left_over(generator: torch.Generator) -> None:
    model = _model()
    grids = model.grids(32, 32)
    features = model.images_to_features(_images())
    clean = model.self_correction(features, [], grids)
    for ours, theirs in zip(clean.levels, model.features_to_levels(features, grids), strict=True):
        assert torch.equal(ours, theirs)
    flips = model.draw_flips(2, grids, scales=2, generator=generator)
    assert [tuple(flip.shape) for flip in flips] == [(2, *g, TINY.code_dim) for g in grids[:2]]
    flips = [torch.ones_like(flip) for flip in flips]  # all bits of the first two scales
    made = model.self_correction(features, flips, grids)
    assert torch.equal(made.levels[0], clean.levels[0])  # targets of the first are the true ones
    assert not torch.equal(made.levels[1], clean.levels[1])
    total = model.empty_total(2, grids)
    for k in range(2):
        codes = model.quantizer.indices_to_codes(1 - made.levels[k])
        total = model.add_codes(total, codes, k, grids).total
    rest = F.adaptive_avg_pool2d(features - total, grids[2]).permute(0, 2, 3, 1)
    assert torch.equal(made.levels[2], (rest > 0).long())
    assert made.inputs.shape == (2, sum(h * w for h, w in grids[1:]), TINY.code_dim)


def test_strengths_of_flips_stay_below_the_largest(generator: torch.Generator) -> None:
    model = _model()
    grids = model.grids(32, 32)
    shares = np.array(
        [
            float(flip.float().mean())
            for _ in range(40)
            for flip in model.draw_flips(8, grids, strength=0.3, generator=generator)[3:]
        ]
    )
    assert shares.max() < 0.35
    assert shares.min() < 0.05
    assert 0.1 < shares.mean() < 0.2  # uniform over 0 to 0.3
    none = model.draw_flips(2, grids, strength=0.0, generator=generator)
    assert not any(bool(flip.any()) for flip in none)


def test_half_precision_keeps_what_tokens_mean() -> None:
    model, half = _model(), _model().to(torch.float16)
    assert half.space_id == model.space_id
    assert bool(torch.isfinite(half.decode(model.encode(_images()))).all())


def test_what_does_not_fit_is_refused() -> None:
    model = _model()
    grids = model.grids(32, 32)
    features = torch.zeros(1, TINY.code_dim, *grids[-1])
    flips = [torch.zeros(1, 1, 1, TINY.code_dim, dtype=torch.bool)] * (len(grids) + 1)
    with pytest.raises(ShapeError, match="flips of 6 scales given"):
        model.self_correction(features, flips, grids)
    for changes, message in (
        ({"multipliers": ()}, "first to be 1"),
        ({"channels": 10}, "multiple of the groups"),
        ({"schedule": ((2, 2), (1, 1))}, "grids that grow"),
    ):
        with pytest.raises(ConfigError, match=message):
            replace(TINY, **changes)
