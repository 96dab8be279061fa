"""AutoencoderKL: the continuous autoencoder of latent diffusion (arXiv 2112.10752).

::

    image --encoder f8--> (h, w, 2 C) mean, log-variance --mean--> (h, w, C) --decoder--> image

The bottleneck is a diagonal Gaussian with a small penalty,

    loss = w KL(N(mu, sigma^2) || N(0, 1)),

sampled in training; the token is its mean. The network is the one of VQGAN, diffusers' encoder and
decoder are used, and the names of all tensors are those of diffusers' AutoencoderKL. One network
serves Stable Diffusion (4 channels), SDXL, and Stable Diffusion 3 and FLUX (16 channels, without
the 1x1 convolutions beside the bottleneck). Attention at the lowest resolution and group norms see
the whole picture, so large pictures are tiled with overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from tessella.errors import ConfigError
from tessella.tokenizers.latent import Latents, LatentTokenizer, check_scale
from tessella.tokenizers.quantizers.gaussian_kl import GaussianKL
from tessella.tokenizers.registry import Preset, register


@dataclass(frozen=True, slots=True)
class AutoencoderKLConfig:
    """Sizes of an AutoencoderKL.

    Args:
        widths: channels at each resolution, halved from one to the next.
        blocks: residual blocks of an encoder level; a decoder level has one more.
        latent_channels: ``C``.
        norm_groups: groups of the normalisations.
        has_quant_conv: whether a 1x1 convolution follows the encoder.
        has_post_quant_conv: whether a 1x1 convolution precedes the decoder.
        has_attention: whether the lowest resolution has attention.
        scale: factor of the tokens, see :mod:`tessella.tokenizers.latent`.
        shift: what is subtracted before.
        kl_weight: factor of the KL term, summed over a picture's elements.
    """

    widths: tuple[int, ...] = (128, 256, 512, 512)
    blocks: int = 2
    latent_channels: int = 4
    norm_groups: int = 32
    has_quant_conv: bool = True
    has_post_quant_conv: bool = True
    has_attention: bool = True
    scale: float = 1.0
    shift: float = 0.0
    kl_weight: float = 1e-6

    def __post_init__(self) -> None:
        check_scale(self)
        if not self.widths or any(width % self.norm_groups for width in self.widths):
            raise ConfigError(
                f"widths={self.widths}, norm_groups={self.norm_groups} given; expected multiples "
                "of the groups"
            )


def _networks(config: AutoencoderKLConfig) -> tuple[nn.Module, nn.Module]:
    """Return diffusers' encoder and decoder of these sizes."""
    from diffusers.models.autoencoders.vae import Decoder, Encoder

    levels = len(config.widths)
    encoder = Encoder(
        out_channels=config.latent_channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        block_out_channels=config.widths,
        layers_per_block=config.blocks,
        norm_num_groups=config.norm_groups,
        mid_block_add_attention=config.has_attention,
    )
    decoder = Decoder(
        in_channels=config.latent_channels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.widths,
        layers_per_block=config.blocks,
        norm_num_groups=config.norm_groups,
        mid_block_add_attention=config.has_attention,
    )
    return encoder, decoder


def _sixteen(scale: float, shift: float) -> AutoencoderKLConfig:
    return AutoencoderKLConfig(
        latent_channels=16,
        has_quant_conv=False,
        has_post_quant_conv=False,
        scale=scale,
        shift=shift,
    )


@register(
    "autoencoder_kl",
    config=AutoencoderKLConfig,
    presets=(
        Preset(
            "kl-f8-c4-sd",
            AutoencoderKLConfig(scale=0.18215),
            "MIT",
            "2112.10752",
            "https://huggingface.co/stabilityai/sd-vae-ft-mse",
            "Stable Diffusion 1 and 2",
        ),
        Preset(
            "kl-f8-c4-sdxl",
            AutoencoderKLConfig(scale=0.13025),
            "MIT",
            "2307.01952",
            "https://huggingface.co/stabilityai/sdxl-vae",
            "half precision overflows: use float32 or bfloat16",
        ),
        Preset(
            "kl-f8-c16-sd3",
            _sixteen(1.5305, 0.0609),
            "Stability AI Community",
            "2403.03206",
            "https://huggingface.co/stabilityai/stable-diffusion-3-medium-diffusers",
        ),
        Preset(
            "kl-f8-c16-flux",
            _sixteen(0.3611, 0.1159),
            "Apache-2.0",
            "FLUX.1",
            "https://huggingface.co/black-forest-labs/FLUX.1-schnell",
        ),
        Preset(
            "kl-tiny",
            AutoencoderKLConfig(widths=(8, 16), blocks=1, norm_groups=4, scale=0.5, shift=0.1),
            note="for tests",
        ),
    ),
)
class AutoencoderKL(LatentTokenizer):
    """Convolutional autoencoder with a Gaussian bottleneck.

    Example:
        >>> model = AutoencoderKL(AutoencoderKLConfig(widths=(32, 32, 32, 32), blocks=1))
        >>> model.layout(512, 768).levels[0].grid
        (64, 96)
    """

    config: AutoencoderKLConfig

    def __init__(self, config: AutoencoderKLConfig) -> None:
        super().__init__(config)
        channels = config.latent_channels
        self.encoder, self.decoder = _networks(config)
        self.quant_conv: nn.Module = nn.Identity()
        self.post_quant_conv: nn.Module = nn.Identity()
        if config.has_quant_conv:
            self.quant_conv = nn.Conv2d(2 * channels, 2 * channels, 1)
        if config.has_post_quant_conv:
            self.post_quant_conv = nn.Conv2d(channels, channels, 1)
        self.bottleneck = GaussianKL(channels, kl_weight=config.kl_weight)

    @property
    def stride(self) -> int:
        """Pixels of a grid step."""
        return int(2 ** (len(self.config.widths) - 1))

    def space_tensors(self) -> dict[str, Tensor]:
        """The last layers of the encoder."""
        layers = {"conv_out": self.encoder.conv_out, "quant_conv": self.quant_conv}
        return {
            f"{name}.{key}": tensor
            for name, layer in layers.items()
            for key, tensor in cast(nn.Module, layer).state_dict().items()
        }

    def images_to_moments(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to mean and log-variance ``(B, h, w, 2 C)``."""
        return cast(Tensor, self.quant_conv(self.encoder(images))).permute(0, 2, 3, 1)

    def images_to_latents(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to the means ``(B, h, w, C)``, float32."""
        return self.bottleneck.distribution(self.images_to_moments(images)).mean

    def latents_to_images(self, latents: Tensor) -> Tensor:
        """Map latents ``(B, h, w, C)`` to images ``(B, 3, H, W)``, not clamped."""
        return cast(Tensor, self.decoder(self.post_quant_conv(latents.permute(0, 3, 1, 2))))

    def _training_latents(self, images: Tensor, generator: torch.Generator | None) -> Latents:
        found = self.bottleneck(self.images_to_moments(images), generator=generator)
        return Latents(found.z_q, found.losses, found.stats)


__all__ = ["AutoencoderKL", "AutoencoderKLConfig"]
