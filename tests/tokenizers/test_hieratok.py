"""What is special about the HieraTok-style tokenizer: scales, causality, prefixes, sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers.hieratok import HieraTok, HieraTokConfig
from tessella.tokenizers.layers.scale_causal import ScaleCausalTransformer
from tessella.tokenizers.registry import all_presets
from tessella.tokens import Tokens

TINY: HieraTokConfig = all_presets()["hieratok-tiny"][1].config


def _model(**changes: Any) -> HieraTok:
    torch.manual_seed(0)
    return HieraTok(replace(TINY, **changes)).eval()


def _pyramid(width: int, sides: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, side, side, width, generator=generator) for side in sides]


def _masked(model: ScaleCausalTransformer, maps: list[Tensor]) -> Tensor:
    """The definition: one sequence, an explicit mask, softmax written out, float64."""
    p = {name: v.detach().double() for name, v in model.named_parameters()}
    finest, width = maps[-1].shape[1], maps[-1].shape[-1]
    scales = torch.cat([torch.full((m.shape[1] ** 2,), i) for i, m in enumerate(maps)])
    mask = scales[None, :] <= scales[:, None]
    rates = 10_000.0 ** -(torch.arange(width // 4).double() / (width // 4))
    sequence = []
    for i, level in enumerate(maps):
        side = level.shape[1]
        for u in range(side):
            for v in range(side):
                parts = []
                for place in (u, v):
                    angle = ((place + 0.5) * finest / side - 0.5) * rates
                    parts += [angle.sin(), angle.cos()]
                x = level[:, u, v].double() + torch.cat(parts)
                if "scale_embedding" in p:
                    x = x + p["scale_embedding"][i]
                sequence.append(x)
    x = torch.stack(sequence, dim=1)
    for i, block in enumerate(model.blocks):
        w = {k.removeprefix(f"blocks.{i}."): v for k, v in p.items()}
        h = F.layer_norm(x, (width,), w["norm1.weight"], w["norm1.bias"], 1e-6)
        h = h @ w["qkv.weight"].T + w["qkv.bias"]
        heads = []
        for q, k, v in zip(
            *(t.split(block.head_dim, dim=-1) for t in h.chunk(3, dim=-1)), strict=True
        ):
            scores = (q @ k.transpose(1, 2)) / block.head_dim**0.5
            heads.append(scores.masked_fill(~mask, -torch.inf).softmax(dim=-1) @ v)
        x = x + torch.cat(heads, dim=-1) @ w["proj.weight"].T + w["proj.bias"]
        h = F.layer_norm(x, (width,), w["norm2.weight"], w["norm2.bias"], 1e-6)
        h = F.gelu(h @ w["mlp.0.weight"].T + w["mlp.0.bias"])
        x = x + h @ w["mlp.2.weight"].T + w["mlp.2.bias"]
    return x


@pytest.mark.parametrize("sides", [(1, 2, 4), (4,), (1, 3, 5)])
@torch.inference_mode()
def test_attention_by_scales_is_masked_attention(sides: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    model = ScaleCausalTransformer(16, 2, len(sides), head_dim=8)
    maps = _pyramid(16, sides)
    found = model(maps)
    flat = torch.cat([level.flatten(1, 2) for level in found], dim=1)
    torch.testing.assert_close(flat.double(), _masked(model, maps), rtol=0, atol=1e-5)
    assert (model.scale_embedding is None) == (len(sides) == 1)


@torch.inference_mode()
def test_scale_by_scale_equals_the_full_pass() -> None:
    model = ScaleCausalTransformer(16, 3, 4, head_dim=8)
    maps = _pyramid(16, (1, 2, 3, 6))
    for step, whole in zip(model.steps(maps), model(maps), strict=True):
        torch.testing.assert_close(step, whole, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_coarse_scales_do_not_see_finer_ones() -> None:
    model = ScaleCausalTransformer(16, 2, 3, head_dim=8)
    maps = _pyramid(16, (1, 2, 4))
    before = model(maps)
    for i in range(3):
        nudged = list(maps)
        nudged[i] = maps[i].clone()
        nudged[i][:, 0, 0, 3] += 1
        after = model(nudged)
        for j in range(3):
            assert torch.equal(before[j], after[j]) == (j < i)
            if j >= i:  # every position of the scale and of finer ones
                assert bool((before[j] != after[j]).any(dim=-1).all())


def test_numbers_of_allowed_pairs() -> None:
    for scales, pairs in (((1, 2, 4, 8, 16), 93_093), ((1, 2, 4), 357)):
        lengths = [side * side for side in scales]
        ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
        assert sum(n * end for n, end in zip(lengths, ends, strict=True)) == pairs
        assert HieraTokConfig(scales=scales).grids(scales[-1], scales[-1]) == [
            (side, side) for side in scales
        ]


def _with_levels(tokens: Tokens, start: int, seed: int = 3) -> Tokens:
    """Replace the levels from ``start`` on."""
    generator = torch.Generator().manual_seed(seed)
    levels = list(tokens.levels)
    for i in range(start, len(levels)):
        levels[i] = torch.randn(levels[i].shape, generator=generator)
    return Tokens(levels, tokens.layout)


def test_previews_depend_on_nothing_finer(generator: torch.Generator) -> None:
    model = _model()
    tokens = model.encode(torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1)
    before = list(model.previews(tokens))
    assert [tuple(image.shape) for image in before] == [(2, 3, n, n) for n in (8, 16, 32)]
    torch.testing.assert_close(before[-1], model.decode(tokens), rtol=0, atol=1e-5)
    for start in (1, 2):
        after = list(model.previews(_with_levels(tokens, start)))
        for i, (a, b) in enumerate(zip(before, after, strict=True)):
            assert torch.equal(a, b) == (i < start)
    for kept in (1, 2):
        cut = list(model.previews(tokens.truncate(levels=kept)))
        assert all(torch.equal(a, b) for a, b in zip(cut[:kept], before, strict=False))


def test_every_prefix_of_scales_decodes(generator: torch.Generator) -> None:
    model = _model()
    tokens = model.encode(torch.rand(2, 3, 27, 45, generator=generator) * 2 - 1)
    assert [level.grid for level in tokens.layout.levels] == [(1, 2), (2, 3), (4, 6)]
    for kept in (1, 2, 3):
        cut = tokens.truncate(levels=kept)
        image = model.decode(cut)
        assert image.shape == (2, 3, 27, 45)
        # missing scales repeat the last one that is there
        levels = list(cut.levels)
        for grid in [level.grid for level in tokens.layout.levels][kept:]:
            last = cut.levels[-1].permute(0, 3, 1, 2)
            levels.append(F.interpolate(last, grid, mode="nearest").permute(0, 2, 3, 1))
        assert torch.equal(image, model.decode(Tokens(levels, tokens.layout)))
    with pytest.raises(ShapeError):
        tokens.truncate(groups=1)


def test_pooled_latents_of_latent_models_are_nested(generator: torch.Generator) -> None:
    model = _model(pool_at="latent", scales=(1, 2, 4), encoder_tail=0, has_shortcut=False)
    model.from_latents = nn.Identity()
    latents = torch.randn(2, 4, 4, 4, generator=generator)
    with torch.inference_mode():
        coarse, middle, fine = model._maps([latents], (4, 4))
    assert torch.equal(fine, latents)
    by_hand = latents.view(2, 2, 2, 2, 2, 4).mean(dim=(2, 4))
    torch.testing.assert_close(middle, by_hand)
    torch.testing.assert_close(coarse, middle.mean(dim=(1, 2), keepdim=True))


def test_what_averages_out_reaches_the_finest_scale_only(generator: torch.Generator) -> None:
    model = _model(pool_at="latent")
    tokens = model.encode(torch.rand(1, 3, 32, 32, generator=generator) * 2 - 1)
    assert [level.grid for level in tokens.layout.levels] == [(4, 4)]
    pattern = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(2, 2)[None, :, :, None]
    nudged = Tokens((tokens.levels[0] + pattern,), tokens.layout)
    *coarse, fine = zip(model.previews(tokens), model.previews(nudged), strict=True)
    assert all(float((a - b).abs().max()) <= 1e-5 for a, b in coarse)
    assert float((fine[0] - fine[1]).abs().max()) > 1e-2


@pytest.mark.parametrize("pool_at", ["latent", "feature"])
def test_pixels_alone_train_the_embeddings_of_coarse_scales(
    pool_at: str, generator: torch.Generator
) -> None:
    model = _model(pool_at=pool_at).train()
    images = torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1
    out = model(images, generator=generator)
    assert set(out.losses) == {"kl", "preview"}
    (out.images - images).abs().mean().backward()
    embedding = model.decoder.scale_embedding
    assert embedding is not None and embedding.grad is not None
    assert bool((embedding.grad != 0).any(dim=-1).all())


def test_one_scale_has_nothing_to_preview_or_embed() -> None:
    model = _model(scales=(4,), has_aux_heads=False)
    assert model.decoder.scale_embedding is None
    tokens = model.encode(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ConfigError, match="has_aux_heads=False"):
        next(model.previews(tokens))


VIT_B_BLOCKS = 85_054_464
VIT_L_BLOCKS = 302_309_376


@pytest.mark.parametrize(
    ("preset", "encoder", "decoder", "channels", "scales"),
    [
        ("hieratok-base", VIT_B_BLOCKS, VIT_B_BLOCKS, 32, 5),
        ("hieratok-large", VIT_B_BLOCKS, VIT_L_BLOCKS, 32, 5),
        ("hieratok-base-single", VIT_B_BLOCKS, VIT_B_BLOCKS, 32, 1),
    ],
)
def test_full_sizes(preset: str, encoder: int, decoder: int, channels: int, scales: int) -> None:
    config = all_presets()[preset][1].config
    with torch.device("meta"):
        model = HieraTok(config)

    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert count(model.encoder.blocks) == encoder
    assert count(model.decoder.blocks) == decoder
    assert (model.stride, config.latent_channels, len(config.scales)) == (16, channels, scales)
    width, wide = config.encoder_width, config.decoder_width
    rest = count(model) - encoder - decoder
    layers = (3 * 256 + 1) * width + (width + 1) * 2 * channels + (channels + 1) * wide
    layers += (wide + 1) * 3 * 256 + 2 * width + 2 * wide
    assert rest == layers + (scales * wide if scales > 1 else 0)


@torch.inference_mode()
def test_full_size_layout() -> None:
    config = replace(all_presets()["hieratok-base-pyramid"][1].config, encoder_depth=1)
    model = HieraTok(replace(config, decoder_depth=1, encoder_width=64, decoder_width=64))
    layout = model.layout(256, 256)
    assert [level.grid for level in layout.levels] == [(n, n) for n in (1, 2, 4, 8, 16)]
    assert layout.num_values == 341 * 32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales": ()}, "scales="),
        ({"scales": (2, 2)}, "rising"),
        ({"latent_channels": 5}, "a divisor of both widths"),
        ({"head_dim": 7}, "head_dim=7"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _model(**changes)
