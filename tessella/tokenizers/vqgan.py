"""VQGAN: a convolutional tokenizer with one learned codebook.

::

    image --encoder f8/f16--> (h, w, Z) --1x1--> (h, w, D) --codebook--> (h, w, D) --1x1--> decoder

One network serves several published systems, which differ in how a vector chooses its code:

* ``nearest``: Euclidean, taming-transformers' VQGAN (arXiv 2012.09841) and latent diffusion's VQ
  models (arXiv 2112.10752);
* ``cosine``: both sides on the unit sphere, LlamaGen (arXiv 2406.06525);
* ``aligned``: largest dot product with gradients to every code, IBQ (arXiv 2412.02692).

The network is exactly diffusers' VQModel, whose encoder and decoder are used. Attention at the
lowest resolution is global, so large pictures are tiled with overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from tessella.errors import ConfigError
from tessella.tokenizers.grid_tokenizer import GridTokenizer
from tessella.tokenizers.layers.taming_network import taming_networks
from tessella.tokenizers.quantizers import IBQ, VQ, Quantizer
from tessella.tokenizers.registry import Preset, register

Assignment = Literal["nearest", "cosine", "aligned"]


@dataclass(frozen=True, slots=True)
class VQGANConfig:
    """Sizes of a VQGAN.

    Args:
        channels: width at full resolution.
        multipliers: factor of the width at each resolution, halved from one to the next; the first
            must be 1.
        blocks: residual blocks of an encoder level; a decoder level has one more.
        attention_levels: levels (0 is full resolution) whose blocks are followed by attention.
        latent_channels: width ``Z`` between networks and bottleneck.
        code_dim: width ``D`` of the codes.
        codebook_size: ``K``.
        assignment: how a vector chooses its code.
        norm_groups: groups of the normalisations.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    attention_levels: tuple[int, ...] = (4,)
    latent_channels: int = 256
    code_dim: int = 256
    codebook_size: int = 16384
    assignment: Assignment = "nearest"
    norm_groups: int = 32

    def __post_init__(self) -> None:
        if not self.multipliers or self.multipliers[0] != 1:
            raise ConfigError(f"multipliers={self.multipliers} given; expected the first to be 1")
        if any(not 0 <= level < len(self.multipliers) for level in self.attention_levels):
            raise ConfigError(
                f"attention_levels={self.attention_levels} given; expected levels from 0 to "
                f"{len(self.multipliers) - 1}"
            )
        if self.channels % self.norm_groups:
            raise ConfigError(
                f"channels={self.channels}, norm_groups={self.norm_groups} given; expected a "
                "multiple of the groups"
            )


def _quantizer(config: VQGANConfig) -> Quantizer:
    if config.assignment == "aligned":
        return IBQ(config.code_dim, config.codebook_size)
    if config.assignment == "cosine":
        return VQ(config.code_dim, config.codebook_size, cosine=True)
    # taming's published models were trained with the weights on the other sides
    return VQ(config.code_dim, config.codebook_size, codebook_weight=0.25, commitment_weight=1.0)


_TAMING = "https://github.com/CompVis/taming-transformers"
_LLAMAGEN = "https://github.com/FoundationVision/LlamaGen"
_IBQ = "https://github.com/TencentARC/SEED-Voken"
_F8 = (1, 2, 2, 4)


def _ibq(codes: int) -> Preset:
    config = VQGANConfig(blocks=4, codebook_size=codes, assignment="aligned")
    return Preset(f"ibq-f16-{codes}", config, "Apache-2.0", "2412.02692", _IBQ)


@register(
    "vqgan",
    config=VQGANConfig,
    presets=(
        Preset("vqgan-f16-1024", VQGANConfig(codebook_size=1024), "MIT", "2012.09841", _TAMING),
        Preset("vqgan-f16-16384", VQGANConfig(), "MIT", "2012.09841", _TAMING),
        Preset(
            "vqgan-f8-16384",
            VQGANConfig(multipliers=_F8, attention_levels=(3,), latent_channels=4, code_dim=4),
            "MIT",
            "2112.10752",
            "https://github.com/CompVis/latent-diffusion",
        ),
        Preset(
            "llamagen-vq-f16",
            VQGANConfig(code_dim=8, assignment="cosine"),
            "MIT",
            "2406.06525",
            _LLAMAGEN,
        ),
        Preset(
            "llamagen-vq-f8",
            VQGANConfig(multipliers=_F8, attention_levels=(3,), code_dim=8, assignment="cosine"),
            "MIT",
            "2406.06525",
            _LLAMAGEN,
        ),
        *(_ibq(codes) for codes in (1024, 8192, 16384, 262144)),
        Preset(
            "vqgan-tiny",
            VQGANConfig(
                channels=8,
                multipliers=(1, 2),
                blocks=1,
                attention_levels=(1,),
                latent_channels=8,
                code_dim=4,
                codebook_size=32,
                norm_groups=4,
            ),
            note="for tests",
        ),
    ),
)
class VQGAN(GridTokenizer):
    """Convolutional tokenizer with one index a position.

    Example:
        >>> model = VQGAN(VQGANConfig(channels=32, codebook_size=64))
        >>> model.layout(256, 256).levels[0].grid
        (16, 16)
    """

    config: VQGANConfig

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__(config)
        self.encoder, self.decoder = taming_networks(
            channels=config.channels,
            multipliers=config.multipliers,
            blocks=config.blocks,
            attention_levels=config.attention_levels,
            latent_channels=config.latent_channels,
            norm_groups=config.norm_groups,
        )
        self.quant_conv = nn.Conv2d(config.latent_channels, config.code_dim, 1)
        self.quantizer = _quantizer(config)
        self.post_quant_conv = nn.Conv2d(config.code_dim, config.latent_channels, 1)

    def images_to_latents(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to unquantized vectors ``(B, h, w, D)``."""
        return cast(Tensor, self.quant_conv(self.encoder(images))).permute(0, 2, 3, 1)

    def latents_to_images(self, latents: Tensor) -> Tensor:
        """Map codes ``(B, h, w, D)`` to images ``(B, 3, H, W)``, not clamped."""
        return cast(Tensor, self.decoder(self.post_quant_conv(latents.permute(0, 3, 1, 2))))


__all__ = ["VQGAN", "VQGANConfig"]
