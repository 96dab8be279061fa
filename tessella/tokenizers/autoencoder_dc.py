"""AutoencoderDC: the deep compression autoencoder, one position per 32, 64 or 128 pixels.

::

    image --conv levels--> --linear attention levels--> (h, w, C) --mirror image--> image

DC-AE (arXiv 2410.10733) reaches such factors by *residual autoencoding*: beside every strided
convolution runs a shortcut without weights, which folds pixels into channels and averages groups of
them (downwards) or repeats channels and unfolds them (upwards), so that layers learn a residual to
the plain rearrangement. Low resolutions have linear attention with gated convolutions
(EfficientViT, arXiv 2205.14756). Latents are not regularised.

diffusers' encoder and decoder are used, and tensors have its names. Attention sees the whole
picture, so large pictures are tiled with overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from tessella.errors import ConfigError
from tessella.tokenizers.latent import LatentTokenizer, check_scale
from tessella.tokenizers.registry import Preset, register

_WIDTHS = (128, 256, 512, 512, 1024, 1024, 2048, 2048)


@dataclass(frozen=True, slots=True)
class AutoencoderDCConfig:
    """Sizes of an AutoencoderDC.

    Args:
        widths: channels at each resolution, halved from one to the next.
        encoder_blocks: blocks at each resolution; a first 0 starts with a strided convolution.
        decoder_blocks: the same for the decoder, in the same order.
        attention_from: first level whose blocks are linear attention rather than convolutions.
        kernel_sizes: convolutions that add queries, keys and values at further scales.
        head_dim: width of an attention head.
        has_shuffle: resample by folding pixels into channels; else by strides and interpolation.
        has_batch_norm: the decoder's convolutional levels have batch norms and ReLU, not RMS norms
            and SiLU.
        latent_channels: ``C``.
        scale: factor of the tokens, see :mod:`tessella.tokenizers.latent`.
        shift: what is subtracted before.
    """

    widths: tuple[int, ...] = _WIDTHS[:6]
    encoder_blocks: tuple[int, ...] = (0, 4, 8, 2, 2, 2)
    decoder_blocks: tuple[int, ...] = (0, 5, 10, 2, 2, 2)
    attention_from: int = 3
    kernel_sizes: tuple[int, ...] = ()
    head_dim: int = 32
    has_shuffle: bool = True
    has_batch_norm: bool = True
    latent_channels: int = 32
    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        check_scale(self)
        if not self.widths or not (
            len(self.widths) == len(self.encoder_blocks) == len(self.decoder_blocks)
        ):
            raise ConfigError(
                f"widths={self.widths}, encoder_blocks={self.encoder_blocks}, "
                f"decoder_blocks={self.decoder_blocks} given; expected one number a resolution"
            )
        if self.widths[-1] % self.latent_channels:
            raise ConfigError(
                f"latent_channels={self.latent_channels} given; expected a divisor of the last "
                f"width, {self.widths[-1]}"
            )
        if any(width % self.head_dim for width in self.widths[self.attention_from :]):
            raise ConfigError(
                f"head_dim={self.head_dim} given; expected a divisor of the widths "
                f"{self.widths[self.attention_from :]} with attention"
            )


def _networks(config: AutoencoderDCConfig) -> tuple[nn.Module, nn.Module]:
    """Return diffusers' encoder and decoder of these sizes."""
    from diffusers.models.autoencoders.autoencoder_dc import Decoder, Encoder

    attends = [level >= config.attention_from for level in range(len(config.widths))]
    batch = [config.has_batch_norm and not attend for attend in attends]
    shared: dict[str, Any] = {
        "in_channels": 3,
        "latent_channels": config.latent_channels,
        "attention_head_dim": config.head_dim,
        "block_type": tuple("EfficientViTBlock" if a else "ResBlock" for a in attends),
        "block_out_channels": config.widths,
        "qkv_multiscales": tuple(config.kernel_sizes if attend else () for attend in attends),
    }
    only_decoder: dict[str, Any] = {
        "norm_type": tuple("batch_norm" if b else "rms_norm" for b in batch),
        "act_fn": tuple("relu" if b else "silu" for b in batch),
    }
    encoder = Encoder(
        layers_per_block=config.encoder_blocks,
        downsample_block_type="pixel_unshuffle" if config.has_shuffle else "conv",
        **shared,
    )
    decoder = Decoder(
        layers_per_block=config.decoder_blocks,
        upsample_block_type="pixel_shuffle" if config.has_shuffle else "interpolate",
        **shared,
        **only_decoder,
    )
    return encoder, decoder


def _released(factor: int, channels: int, data: str, scale: float) -> Preset:
    """Return a preset of the first release: ``in`` was trained on ImageNet, ``mix`` on more."""
    deeper = factor.bit_length() - 6  # levels beyond those of f32
    config = AutoencoderDCConfig(
        widths=_WIDTHS[: 6 + deeper],
        encoder_blocks=(0, 4, 8, 2, 2, 2) + (2,) * deeper,
        decoder_blocks=(0, 5, 10, 2, 2, 2) + (2,) * deeper,
        latent_channels=channels,
        scale=scale,
    )
    source = f"https://huggingface.co/mit-han-lab/dc-ae-f{factor}c{channels}-{data}-1.0-diffusers"
    return Preset(f"dc-ae-f{factor}-c{channels}-{data}", config, "Apache-2.0", "2410.10733", source)


@register(
    "autoencoder_dc",
    config=AutoencoderDCConfig,
    presets=(
        _released(32, 32, "in", 0.3189),
        _released(32, 32, "mix", 0.4552),
        _released(64, 128, "in", 0.2889),
        _released(64, 128, "mix", 0.4538),
        _released(128, 512, "in", 0.4883),
        _released(128, 512, "mix", 0.3620),
        Preset(
            "dc-ae-f32-c32-sana",
            AutoencoderDCConfig(
                encoder_blocks=(2, 2, 2, 3, 3, 3),
                decoder_blocks=(3, 3, 3, 3, 3, 3),
                kernel_sizes=(5,),
                has_shuffle=False,
                has_batch_norm=False,
                scale=0.41407,
            ),
            "Apache-2.0",
            "2410.10629",
            "https://huggingface.co/mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers",
        ),
        Preset(
            "dc-ae-tiny",
            AutoencoderDCConfig(
                widths=(8, 16, 16),
                encoder_blocks=(1, 1, 1),
                decoder_blocks=(1, 1, 1),
                attention_from=2,
                kernel_sizes=(5,),
                head_dim=8,
                has_shuffle=False,
                has_batch_norm=False,
                latent_channels=8,
                scale=0.5,
            ),
            note="for tests",
        ),
    ),
)
class AutoencoderDC(LatentTokenizer):
    """Autoencoder with residual resampling and linear attention.

    Example:
        >>> model = AutoencoderDC(AutoencoderDCConfig(
        ...     widths=(32,) * 6, encoder_blocks=(1,) * 6, decoder_blocks=(1,) * 6))
        >>> model.layout(512, 768).levels[0].grid
        (16, 24)
    """

    config: AutoencoderDCConfig

    def __init__(self, config: AutoencoderDCConfig) -> None:
        super().__init__(config)
        self.encoder, self.decoder = _networks(config)

    @property
    def stride(self) -> int:
        """Pixels of a grid step."""
        return int(2 ** (len(self.config.widths) - 1))

    def space_tensors(self) -> dict[str, Tensor]:
        """The last layer of the encoder."""
        return dict(cast(nn.Module, self.encoder.conv_out).state_dict())

    def images_to_latents(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to latents ``(B, h, w, C)``."""
        return cast(Tensor, self.encoder(images)).permute(0, 2, 3, 1)

    def latents_to_images(self, latents: Tensor) -> Tensor:
        """Map latents ``(B, h, w, C)`` to images ``(B, 3, H, W)``, not clamped."""
        return cast(Tensor, self.decoder(latents.permute(0, 3, 1, 2)))


__all__ = ["AutoencoderDC", "AutoencoderDCConfig"]
