"""AutoencoderTiny: small convolutional autoencoders distilled from large ones (TAESD, TAEF2).

::

    image in [0, 1] --conv; 3 x (blocks, conv / 2); blocks, conv--> (h, w, C)
    (h, w, C) --3 tanh(z / 3), conv; 3 x (blocks, x 2, conv); blocks, conv--> image

A block is ``relu(x + f(x))`` with f three 3x3 convolutions; nothing is normalised. The networks
are diffusers' EncoderTiny and DecoderTiny, and tensors have its names.

The newest of these models, TAEF2, has blocks at the lowest resolution that first add

    p(x) = W2 relu(GroupNorm_4(W1 x)),   W1, W2: 1x1 convolutions, C -> 4 C -> C,

a branch that diffusers' AutoencoderTiny lacks (its blocks would be loaded without it, which loses
half of the decibels); :class:`PooledBlock` takes their place here. The statistics of its group norm
are those of the whole picture. Models without it see no more than their kernels and are tiled
exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import ConfigError
from tessella.tokenizers.latent import LatentTokenizer, check_scale
from tessella.tokenizers.registry import Preset, register

_POOL_GROUPS = 4
_POOL_RATIO = 4


@dataclass(frozen=True, slots=True)
class AutoencoderTinyConfig:
    """Sizes of an AutoencoderTiny.

    Args:
        channels: width of all layers.
        encoder_blocks: blocks at each resolution, the highest first.
        decoder_blocks: blocks at each resolution, the lowest first.
        latent_channels: ``C``.
        has_pool: whether blocks at the lowest resolution have the pooled branch.
        scale: factor of the tokens, see :mod:`tessella.tokenizers.latent`.
        shift: what is subtracted before.
    """

    channels: int = 64
    encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    decoder_blocks: tuple[int, ...] = (3, 3, 3, 1)
    latent_channels: int = 4
    has_pool: bool = False
    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        check_scale(self)
        if not self.encoder_blocks or len(self.encoder_blocks) != len(self.decoder_blocks):
            raise ConfigError(
                f"encoder_blocks={self.encoder_blocks}, decoder_blocks={self.decoder_blocks} "
                "given; expected as many resolutions in both"
            )


class PooledBlock(nn.Module):
    """``relu(x' + f(x'))`` with ``x' = x + p(x)``, see the module's text.

    Args:
        channels: width.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        wide = _POOL_RATIO * channels
        self.pool = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False),
            nn.GroupNorm(_POOL_GROUPS, wide),
            nn.ReLU(),
            nn.Conv2d(wide, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(B, C, h, w)``."""
        x = x + self.pool(x)
        return F.relu(x + self.conv(x))


def _networks(config: AutoencoderTinyConfig) -> tuple[nn.Module, nn.Module]:
    """Return diffusers' encoder and decoder, with pooled blocks where they belong."""
    from diffusers.models.autoencoders.vae import DecoderTiny, EncoderTiny

    widths = (config.channels,) * len(config.encoder_blocks)
    encoder = EncoderTiny(
        in_channels=3,
        out_channels=config.latent_channels,
        num_blocks=config.encoder_blocks,
        block_out_channels=widths,
        act_fn="relu",
    )
    decoder = DecoderTiny(
        in_channels=config.latent_channels,
        out_channels=3,
        num_blocks=config.decoder_blocks,
        block_out_channels=widths,
        upsampling_scaling_factor=2,
        act_fn="relu",
        upsample_fn="nearest",
    )
    if config.has_pool:
        last = len(encoder.layers) - 1
        for i in range(last - config.encoder_blocks[-1], last):
            encoder.layers[i] = PooledBlock(config.channels)
        for i in range(2, 2 + config.decoder_blocks[0]):
            decoder.layers[i] = PooledBlock(config.channels)
    return encoder, decoder


_TAESD = "https://github.com/madebyollin/taesd"


@register(
    "autoencoder_tiny",
    config=AutoencoderTinyConfig,
    presets=(
        Preset(
            "taesd-f8-c4",
            AutoencoderTinyConfig(),
            "MIT",
            "",
            _TAESD,
            "distilled from the autoencoder of Stable Diffusion (taesd) or SDXL (taesdxl)",
        ),
        Preset(
            "taesd-f8-c16",
            AutoencoderTinyConfig(latent_channels=16),
            "MIT",
            "",
            _TAESD,
            "distilled from that of Stable Diffusion 3 (taesd3) or FLUX.1 (taef1)",
        ),
        Preset(
            "taesd-f8-c32",
            AutoencoderTinyConfig(latent_channels=32, has_pool=True),
            "MIT",
            "",
            _TAESD,
            "distilled from that of FLUX.2 (taef2)",
        ),
        Preset(
            "taesd-tiny",
            AutoencoderTinyConfig(
                channels=8,
                encoder_blocks=(1, 1),
                decoder_blocks=(1, 1),
                has_pool=True,
                scale=0.5,
                shift=0.1,
            ),
            note="for tests",
        ),
    ),
)
class AutoencoderTiny(LatentTokenizer):
    """Small convolutional autoencoder.

    Example:
        >>> model = AutoencoderTiny(AutoencoderTinyConfig(channels=8))
        >>> model.layout(512, 768).levels[0].grid
        (64, 96)
    """

    config: AutoencoderTinyConfig

    def __init__(self, config: AutoencoderTinyConfig) -> None:
        super().__init__(config)
        self.encoder, self.decoder = _networks(config)

    @property
    def stride(self) -> int:
        """Pixels of a grid step."""
        return int(2 ** (len(self.config.encoder_blocks) - 1))

    @property
    def halo(self) -> int | None:
        """Pixels that the encoder or the decoder sees beyond a tile; None with pooled blocks."""
        if self.config.has_pool:
            return None
        # strided and upsampled convolutions: one pixel of the finer side of each level
        between = self.stride - 1  # 1 + 2 + ... + stride / 2
        encoder = 1 + between + self.stride
        decoder = self.stride + between + 1
        levels = zip(self.config.encoder_blocks, self.config.decoder_blocks[::-1], strict=True)
        for level, (down, up) in enumerate(levels):
            encoder += 3 * down * int(2**level)
            decoder += 3 * up * int(2**level)
        return -(-max(encoder, decoder) // self.stride) * self.stride

    def space_tensors(self) -> dict[str, Tensor]:
        """The last layer of the encoder."""
        layers = cast(nn.Sequential, self.encoder.layers)
        return dict(layers[-1].state_dict())

    def images_to_latents(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to latents ``(B, h, w, C)``, about within [-3, 3]."""
        return cast(Tensor, self.encoder(images)).permute(0, 2, 3, 1)

    def latents_to_images(self, latents: Tensor) -> Tensor:
        """Map latents ``(B, h, w, C)`` to images ``(B, 3, H, W)``, not clamped."""
        return cast(Tensor, self.decoder(latents.permute(0, 3, 1, 2)))


__all__ = ["AutoencoderTiny", "AutoencoderTinyConfig", "PooledBlock"]
