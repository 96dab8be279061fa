"""What is special about WeTok: published sizes, bits, style, and the decoder that takes noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tessella.errors import CheckpointError, ConfigError, ShapeError
from tessella.tokenizers.checkpoints import convert
from tessella.tokenizers.layers.adaptive_norm import style_of
from tessella.tokenizers.layers.norm_residual import exact_group_norm
from tessella.tokenizers.registry import all_presets
from tessella.tokenizers.wetok import WeTok, WeTokConfig

TINY: WeTokConfig = all_presets()["wetok-tiny"][1].config


def _model(seed: int = 0, *, is_generative: bool = False) -> WeTok:
    torch.manual_seed(seed)
    return WeTok(replace(TINY, is_generative=is_generative)).eval()


def _images(height: int = 16, width: int = 24, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, height, width, generator=generator) * 2 - 1


@pytest.mark.parametrize(
    ("preset", "encoder", "decoder", "tokens", "bits"),
    [
        ("wetok-f8", 193.62, 254.26, (32, 32, 4), 32768),
        ("wetok-f16", 198.94, 261.36, (16, 16, 4), 8192),
        ("wetok-f8-ratio24", 193.66, 254.75, (32, 32, 8), 65536),
        ("wetok-f8-ratio48", 193.62, 254.26, (32, 32, 4), 32768),
        ("wetok-f16-ratio192", 198.94, 261.36, (16, 16, 4), 8192),
        ("wetok-f32-ratio768", 720.16, 953.52, (8, 8, 4), 2048),
        ("open-magvit2-f8-262144", 48.4, 63.6, (32, 32, 1), 18432),
        ("open-magvit2-f16-262144", 49.8, 65.4, (16, 16, 1), 4608),
        ("open-magvit2-f16-pretrain-262144", 49.8, 65.4, (16, 16, 1), 4608),
        ("open-magvit2-f16-pretrain-16384", 49.7, 65.3, (16, 16, 1), 3584),
    ],
)
def test_published_sizes(
    preset: str, encoder: float, decoder: float, tokens: tuple[int, ...], bits: int
) -> None:
    with torch.device("meta"):
        model = WeTok(all_presets()[preset][1].config)
    digits = 2 if preset.startswith("wetok") else 1
    for part, millions in ((model.encoder, encoder), (model.decoder, decoder)):
        count = sum(p.numel() for p in part.parameters())
        assert round(count / 1e6, digits) == millions
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    grid = 256 // model.stride
    assert (grid, grid, model.config.groups) == tokens
    assert grid * grid * model.quantizer.bits_per_token == bits
    if preset == "wetok-f16":  # as many as the raw weights in the published file
        assert sum(p.numel() for p in model.parameters()) == 460_294_179


@torch.inference_mode()
def test_groups_follow_channels_and_the_first_channel_is_the_lowest_bit() -> None:
    model = _model()
    latents = model.images_to_latents(_images())
    indices = model.encode(_images()).levels[0]
    bits = (latents > 0).unflatten(-1, (model.config.groups, model.config.group_bits)).numpy()
    expected = (bits * 2 ** np.arange(model.config.group_bits)).sum(axis=-1)
    np.testing.assert_array_equal(indices.numpy(), expected)


def test_style_is_mean_and_unbiased_deviation_of_a_picture() -> None:
    codes = torch.randn(2, 3, 4, 5).sign()
    style = style_of(codes)
    flat = codes.double().flatten(2).numpy()
    np.testing.assert_allclose(style.mean.numpy(), flat.mean(axis=2), atol=1e-6)
    deviation = np.sqrt(flat.var(axis=2, ddof=1) + 1e-6)
    np.testing.assert_allclose(style.deviation.numpy(), deviation, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 3), (33, 47)])
def test_any_size_decodes_even_a_single_position(size: tuple[int, int]) -> None:
    model = _model()
    picture = model.decode(model.encode(_images(*size)))
    assert picture.shape == (2, 3, *size)
    assert bool(torch.isfinite(picture).all())


def test_normalisation_is_exact_in_every_memory_format() -> None:
    x = torch.randn(2, 32, 6, 8) + 100
    expected = F.group_norm(x.double(), 8, eps=1e-6)
    for form in (torch.contiguous_format, torch.channels_last):
        ours = exact_group_norm(x.contiguous(memory_format=form), 8)
        assert float((ours - expected).abs().max()) < 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_what_tokens_mean(dtype: torch.dtype) -> None:
    model, half = _model(), _model().to(dtype)
    tokens = half.encode(_images())
    assert half.dtype == dtype
    assert half.space_id == model.space_id
    assert bool(torch.isfinite(model.decode(tokens)).all())
    assert bool(torch.isfinite(half.decode(model.encode(_images()))).all())


def test_noise_is_zero_unless_it_is_asked_for(generator: torch.Generator) -> None:
    model = _model(is_generative=True)
    tokens = model.encode(_images())
    batch, height, width, _ = tokens.levels[0].shape
    shape = (batch, model.config.latent_channels, height, width)
    silent = model.decode(tokens)
    assert torch.equal(silent, model.decode(tokens, noise=torch.zeros(shape)))
    drawn = model.decode(tokens, generator=generator)
    assert not torch.equal(drawn, silent)
    assert not torch.equal(drawn, model.decode(tokens, generator=generator))
    assert torch.equal(drawn, model.decode(tokens, generator=generator.manual_seed(0)))
    noise = torch.randn(shape, generator=generator.manual_seed(0))
    assert torch.equal(drawn, model.decode(tokens, noise=noise))


def test_noise_that_does_not_fit_is_refused(generator: torch.Generator) -> None:
    plain, model = _model(), _model(is_generative=True)
    tokens = model.encode(_images())
    noise = torch.zeros(2, 8, 8, 12)
    with pytest.raises(ShapeError, match="takes none"):
        plain.decode(plain.encode(_images()), noise=noise)
    with pytest.raises(ShapeError, match="one of them"):
        model.decode(tokens, noise=noise, generator=generator)
    for wrong in (noise[:1], noise[:, :4], noise.transpose(2, 3), noise.long()):
        with pytest.raises(ShapeError, match=r"expected floats \(2, 8, 8, 12\)"):
            model.decode(tokens, noise=wrong)


def test_the_generative_stage_starts_from_the_plain_model(generator: torch.Generator) -> None:
    plain = _model()
    model = plain.with_noise()
    tokens = plain.encode(_images())
    assert model.space_id == plain.space_id
    noisy = model.decode(tokens, generator=generator)
    torch.testing.assert_close(noisy, plain.decode(tokens), atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="generative model given"):
        model.with_noise()


def test_training_draws_noise_from_the_generator_and_reaches_every_parameter() -> None:
    model = _model(is_generative=True).train()
    first = model(_images(), generator=torch.Generator().manual_seed(1))
    again = model(_images(), generator=torch.Generator().manual_seed(1))
    other = model(_images(), generator=torch.Generator().manual_seed(2))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    (first.images.square().mean() + sum(first.losses.values())).backward()
    assert all(bool((p.grad != 0).any()) for p in model.parameters() if p.grad is not None)
    assert all(p.grad is not None for p in model.parameters())


def test_configs_and_checkpoints_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of the groups"):
        WeTokConfig(channels=40)
    with pytest.raises(ConfigError, match="at least one multiplier"):
        WeTokConfig(multipliers=())
    with pytest.raises(CheckpointError, match=r"encoder\.conv_out\.weight"):
        convert("wetok", {"decoder.conv_in.weight": torch.zeros(1)})
    names = {"encoder.conv_out.weight": torch.zeros(12, 8, 1, 1)}
    names |= {
        "encoder.conv_in.weight": torch.zeros(32, 3, 3, 3),
        "encoder.down.0.block.0.conv2.weight": torch.zeros(32, 32, 3, 3),
    }
    with pytest.raises(CheckpointError, match="5 groups given for 12 bits"):
        convert("wetok", names, {"model": {"init_args": {"num_codebooks": 5}}})
