"""Continuous autoencoders: agreement with diffusers' own classes, sizes, tiles, token spaces."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tessella.errors import CheckpointError, ConfigError
from tessella.tokenizers.autoencoder_dc import AutoencoderDC, AutoencoderDCConfig
from tessella.tokenizers.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from tessella.tokenizers.autoencoder_tiny import AutoencoderTiny, AutoencoderTinyConfig
from tessella.tokenizers.checkpoints import convert
from tessella.tokenizers.latent import LatentTokenizer
from tessella.tokenizers.registry import all_presets
from tessella.tokens import Tokens

TOLERANCE = 1e-6
OTHER_MEMORY_LAYOUT = 5e-5  # encode() and decode() run channels-last: other kernels, other rounding

KL = {
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "block_out_channels": [8, 16, 24],
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "latent_channels": 3,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
}
DC = {
    "latent_channels": 4,
    "attention_head_dim": 8,
    "encoder_block_types": ["ResBlock", "ResBlock", "EfficientViTBlock"],
    "decoder_block_types": ["ResBlock", "ResBlock", "EfficientViTBlock"],
    "encoder_block_out_channels": [8, 16, 32],
    "decoder_block_out_channels": [8, 16, 32],
    "scaling_factor": 0.4,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "kl": ("AutoencoderKL", KL),
    "kl without 1x1 convolutions": (
        "AutoencoderKL",
        KL | {"use_quant_conv": False, "use_post_quant_conv": False},
    ),
    "kl without attention": ("AutoencoderKL", KL | {"mid_block_add_attention": False}),
    "tiny": (
        "AutoencoderTiny",
        {
            "encoder_block_out_channels": [8] * 3,
            "decoder_block_out_channels": [8] * 3,
            "num_encoder_blocks": [1, 2, 3],
            "num_decoder_blocks": [2, 3, 1],
            "latent_channels": 5,
        },
    ),
    "dc of the first release": (
        "AutoencoderDC",
        DC
        | {
            "encoder_layers_per_block": [0, 2, 1],
            "decoder_layers_per_block": [0, 1, 2],
            "encoder_qkv_multiscales": [[], [], []],
            "decoder_qkv_multiscales": [[], [], []],
            "decoder_norm_types": ["batch_norm", "batch_norm", "rms_norm"],
            "decoder_act_fns": ["relu", "relu", "silu"],
        },
    ),
    "dc of sana": (
        "AutoencoderDC",
        DC
        | {
            "encoder_layers_per_block": [1, 2, 1],
            "decoder_layers_per_block": [2, 1, 1],
            "encoder_qkv_multiscales": [[], [], [5]],
            "decoder_qkv_multiscales": [[], [], [5]],
            "upsample_block_type": "interpolate",
            "downsample_block_type": "conv",
        },
    ),
}
FORMATS = {
    "AutoencoderKL": "diffusers_kl",
    "AutoencoderTiny": "diffusers_tiny",
    "AutoencoderDC": "diffusers_dc",
}


def _randomised(model: nn.Module) -> nn.Module:
    """Move away from initial ones and zeros, the statistics of batch norms too."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator)
                tensor.add_(noise.abs() if name.endswith("running_var") else 0.1 * noise)
    return model.eval()


def _theirs(name: str, options: dict[str, Any]) -> Any:
    import diffusers

    return _randomised(getattr(diffusers, name)(**options))


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_same_weights_give_what_diffusers_gives(case: str, generator: torch.Generator) -> None:
    name, options = CASES[case]
    theirs = _theirs(name, options)
    ours = convert(FORMATS[name], theirs.state_dict(), dict(theirs.config))
    assert isinstance(ours, LatentTokenizer)
    images = torch.rand(2, 3, 32, 48, generator=generator) * 2 - 1
    found = theirs.encode(images)
    if name == "AutoencoderKL":
        expected = found.latent_dist.mode()
    else:
        expected = found.latent if name == "AutoencoderDC" else found.latents
    latents = ours.images_to_latents(images).permute(0, 3, 1, 2)
    assert _difference(latents, expected) <= TOLERANCE
    reconstruction = ours.latents_to_images(expected.permute(0, 2, 3, 1))
    assert _difference(reconstruction, theirs.decode(expected).sample) <= TOLERANCE
    # tokens are what pipelines give their denoisers
    scale = theirs.config.scaling_factor
    shift = theirs.config.get("shift_factor") or 0.0
    tokens = ours.encode(images)
    standardised = (expected - shift) * scale
    assert _difference(tokens.levels[0].permute(0, 3, 1, 2), standardised) <= OTHER_MEMORY_LAYOUT
    decoded = theirs.decode(standardised / scale + shift).sample.clamp(-1, 1)
    assert _difference(ours.decode(tokens), decoded) <= OTHER_MEMORY_LAYOUT


def _difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))


def test_moments_and_penalty_are_those_of_diffusers(generator: torch.Generator) -> None:
    theirs = _theirs("AutoencoderKL", KL)
    ours = convert("diffusers_kl", theirs.state_dict(), dict(theirs.config)).train()
    assert isinstance(ours, AutoencoderKL)
    images = torch.rand(2, 3, 16, 16, generator=generator) * 2 - 1
    posterior = theirs.encode(images).latent_dist
    penalty = ours.config.kl_weight * posterior.kl().mean()
    found = ours(images, generator=generator).losses["kl"]
    torch.testing.assert_close(found, penalty, rtol=1e-5, atol=0.0)


def test_names_from_before_diffusers_018_are_known() -> None:
    state = _theirs("AutoencoderKL", KL).state_dict()
    renames = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, tensor in state.items():
        for new, before in renames.items():
            if f".attentions.0.{new}." in name:
                name = name.replace(new, before)
                tensor = tensor[..., None, None] if name.endswith("weight") else tensor
        old[name] = tensor
    sizes = {"norm_num_groups": KL["norm_num_groups"]}
    new, model = convert("diffusers_kl", state, sizes), convert("diffusers_kl", old, sizes)
    images = torch.zeros(1, 3, 16, 16)
    # without a config the scale is unknown, and 1
    assert model.encode(images).levels[0].equal(new.encode(images).levels[0])
    assert convert("diffusers_kl", state, KL).config.scale == KL["scaling_factor"]
    assert model.config.scale == 1


@pytest.mark.parametrize(
    ("case", "change", "message"),
    [
        ("kl", {"act_fn": "relu"}, "act_fn='relu'"),
        ("kl", {"latents_mean": [0.1]}, "latents_mean"),
        ("tiny", {"act_fn": "silu"}, "act_fn='silu'"),
        ("dc of sana", {"encoder_out_shortcut": False}, "encoder_out_shortcut"),
        ("dc of sana", {"encoder_block_out_channels": [8, 16, 64]}, "decoder_block_out_channels"),
    ],
)
def test_options_that_are_missing_here_are_refused(
    case: str, change: dict[str, Any], message: str
) -> None:
    name, options = CASES[case]
    theirs = _theirs(name, options)
    with pytest.raises(CheckpointError, match=message):
        convert(FORMATS[name], theirs.state_dict(), dict(theirs.config) | change)


def test_dc_needs_its_config() -> None:
    state = _theirs(*CASES["dc of sana"]).state_dict()
    with pytest.raises(CheckpointError, match="encoder_block_out_channels"):
        convert("diffusers_dc", state)


# (parameters, stride, channels)
SIZES = {
    "kl-f8-c4-sd": (83_653_863, 8, 4),
    "kl-f8-c4-sdxl": (83_653_863, 8, 4),
    "kl-f8-c16-sd3": (83_819_683, 8, 16),
    "kl-f8-c16-flux": (83_819_683, 8, 16),
    "taesd-f8-c4": (2_445_063, 8, 4),
    "taesd-f8-c32": (1_338_528 + 1_338_499, 8, 32),
    "dc-ae-f32-c32-in": (323_000_000, 32, 32),
    "dc-ae-f32-c32-sana": (312_000_000, 32, 32),
    "dc-ae-f64-c128-mix": (676_000_000, 64, 128),
    "dc-ae-f128-c512-in": (1_100_000_000, 128, 512),
}


@pytest.mark.parametrize("preset", SIZES)
def test_published_sizes(preset: str) -> None:
    family, found = all_presets()[preset]
    with torch.device("meta"):
        model = family.model_class(found.config)
    parameters, stride, channels = SIZES[preset]
    count = sum(p.numel() for p in model.parameters())
    if preset.startswith("dc"):  # published in millions
        assert count == pytest.approx(parameters, rel=0.02)
    else:
        assert count == parameters
    assert (model.stride, model.config.latent_channels) == (stride, channels)


@torch.inference_mode()
def test_tiles_of_the_convolutional_one_are_exact(generator: torch.Generator) -> None:
    config = AutoencoderTinyConfig(channels=4, encoder_blocks=(1, 1, 1), decoder_blocks=(1, 2, 1))
    model = _randomised(AutoencoderTiny(config))
    assert isinstance(model, AutoencoderTiny)
    halo, core = model.halo, 16
    assert halo is not None and halo % model.stride == 0
    images = torch.rand(1, 3, 2 * halo + core + 32, 2 * halo + core, generator=generator) * 2 - 1
    whole = model.images_to_latents(images)
    below = model.images_to_latents(images[..., 16:, :])
    first, last = halo // 4, (halo + core) // 4
    torch.testing.assert_close(below[:, first:last], whole[:, first + 4 : last + 4])
    decoded = model.latents_to_images(whole)
    tile = model.latents_to_images(whole[:, 4:])
    inner, outer = slice(halo, halo + core), slice(16 + halo, 16 + halo + core)
    torch.testing.assert_close(tile[..., inner, :], decoded[..., outer, :])
    # one cell less would not do
    assert not torch.allclose(tile[..., : halo - 8, :], decoded[..., 16 : halo + 8, :])


def test_global_ones_say_so() -> None:
    pooled = AutoencoderTiny(AutoencoderTinyConfig(channels=4, has_pool=True))
    assert pooled.halo is None
    assert AutoencoderKL(AutoencoderKLConfig(widths=(32,), blocks=1)).halo is None


def test_a_fine_tuned_decoder_and_half_precision_keep_the_token_space() -> None:
    model = AutoencoderKL(all_presets()["kl-tiny"][1].config)
    before = model.space_id
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.add_(0.1)
    assert model.space_id == before
    assert model.to(torch.float16).space_id == before
    with torch.no_grad():
        model.quant_conv.weight.mul_(-1)
    assert model.space_id != before


def test_the_decoder_takes_any_floats(generator: torch.Generator) -> None:
    model = AutoencoderDC(all_presets()["dc-ae-tiny"][1].config).eval()
    layout = model.layout(8, 8)
    values = torch.randn(1, 2, 2, 8, generator=generator, dtype=torch.float64)
    assert model.decode(Tokens((values,), layout)).dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AutoencoderKLConfig(latent_channels=0), "latent_channels=0"),
        (lambda: AutoencoderKLConfig(scale=0.0), "scale=0.0"),
        (lambda: AutoencoderKLConfig(widths=(20,)), "norm_groups=32"),
        (lambda: AutoencoderTinyConfig(encoder_blocks=(1,)), "as many resolutions"),
        (lambda: AutoencoderDCConfig(widths=(8,)), "one number a resolution"),
        (lambda: AutoencoderDCConfig(latent_channels=7), "a divisor of the last"),
        (lambda: AutoencoderDCConfig(head_dim=48), "head_dim=48"),
    ],
)
def test_impossible_sizes_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
