"""MaskGIT's VQGAN: a convolutional tokenizer without attention, with 1024 codes.

::

    image --encoder f16--> (h, w, Z) --nearest code--> (h, w, Z) --decoder--> image

    k = argmin_k |z - e_k|^2

The tokenizer of MaskGIT (arXiv 2202.04200) in its PyTorch port. TiTok and One-D-Piece predict its
indices as proxies of pixels in their first stage of training, and decode through its decoder.
Normalisations see the whole picture, so tiles of very large pictures are approximate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tessella.errors import ConfigError
from tessella.tokenizers.grid_tokenizer import GridTokenizer
from tessella.tokenizers.layers.maskgit_network import MaskGITDecoder, MaskGITEncoder
from tessella.tokenizers.quantizers import VQ
from tessella.tokenizers.registry import Preset, register


@dataclass(frozen=True, slots=True)
class MaskGITVQGANConfig:
    """Sizes of MaskGIT's VQGAN.

    Args:
        channels: unit of the widths.
        multipliers: factor of the width at each resolution, halved from one to the next.
        blocks: residual blocks of a level, and of the middle.
        latent_channels: width ``Z`` of the codes.
        codebook_size: ``K``.
        norm_groups: groups of the normalisations; all widths are multiples of it.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    latent_channels: int = 256
    codebook_size: int = 1024
    norm_groups: int = 32

    def __post_init__(self) -> None:
        if not self.multipliers or min(self.multipliers) < 1 or self.blocks < 1:
            raise ConfigError(
                f"multipliers={self.multipliers}, blocks={self.blocks} given; expected at least "
                "one multiplier and one block, none below 1"
            )
        if self.norm_groups < 1 or self.channels < 1 or self.channels % self.norm_groups:
            raise ConfigError(
                f"channels={self.channels}, norm_groups={self.norm_groups} given; expected a "
                "multiple of the groups"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Width at each resolution, the full one first."""
        return tuple(self.channels * factor for factor in self.multipliers)


@register(
    "maskgit_vqgan",
    config=MaskGITVQGANConfig,
    presets=(
        Preset(
            "maskgit-vqgan-f16-1024",
            MaskGITVQGANConfig(),
            "Apache-2.0",
            "2202.04200",
            "https://huggingface.co/fun-research/TiTok (maskgit-vqgan-imagenet-f16-256.bin)",
        ),
        Preset(
            "maskgit-vqgan-tiny",
            MaskGITVQGANConfig(
                channels=8,
                multipliers=(1, 2),
                blocks=1,
                latent_channels=8,
                codebook_size=32,
                norm_groups=4,
            ),
            note="for tests",
        ),
    ),
)
class MaskGITVQGAN(GridTokenizer):
    """Convolutional tokenizer with one index a position.

    Example:
        >>> model = MaskGITVQGAN(MaskGITVQGANConfig(channels=32, blocks=1))
        >>> model.layout(256, 256).levels[0].grid
        (16, 16)
    """

    config: MaskGITVQGANConfig
    quantizer: VQ

    def __init__(self, config: MaskGITVQGANConfig) -> None:
        super().__init__(config)
        sizes = (config.widths, config.blocks, config.latent_channels)
        self.encoder = MaskGITEncoder(*sizes, norm_groups=config.norm_groups)
        # the original weighs the codebook's term, not the commitment
        self.quantizer = VQ(
            config.latent_channels,
            config.codebook_size,
            codebook_weight=0.25,
            commitment_weight=1.0,
        )
        self.decoder = MaskGITDecoder(*sizes, norm_groups=config.norm_groups)

    def images_to_latents(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` in [-1, 1] to unquantized vectors ``(B, h, w, Z)``."""
        latents: Tensor = self.encoder(images.add(1).mul(0.5))
        return latents.permute(0, 2, 3, 1)

    def latents_to_images(self, latents: Tensor) -> Tensor:
        """Map codes ``(B, h, w, Z)`` to images ``(B, 3, H, W)``, not clamped."""
        images: Tensor = self.decoder(latents.permute(0, 3, 1, 2))
        return images.mul(2).sub(1)

    def code_probabilities(self, latents: Tensor, *, temperature: float = 1.0) -> Tensor:
        """Return ``softmax(-|z - e_k|^2 / temperature)``, soft targets for a model of the indices.

        Args:
            latents: ``(B, h, w, Z)``.
            temperature: of the softmax, above 0.

        Returns:
            ``(B, h, w, K)``, float32.
        """
        codes = self.quantizer.codebook.float()
        vectors = latents.float().flatten(0, -2)
        # |z|^2 is the same for all codes of a vector: the softmax does not see it
        nearness = 2 * vectors @ codes.T - codes.square().sum(dim=1)
        return torch.unflatten((nearness / temperature).softmax(dim=-1), 0, latents.shape[:-1])


__all__ = ["MaskGITVQGAN", "MaskGITVQGANConfig"]
