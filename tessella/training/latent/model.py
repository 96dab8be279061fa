"""A tokenizer of scalar latents and its prior as one module: pictures in, bits and pictures out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tessella.codecs.entropy.latent.network import LatentPriorConfig, LatentPriorNetwork
from tessella.errors import ConfigError
from tessella.tokenizers.scalar_latent import (
    QUALITIES,
    ScalarLatentConfig,
    ScalarLatentTokenizer,
    ScaledLatents,
    rounded,
)
from tessella.training.latent.densities import HyperDensity, gaussian_bits


class RatedImages(NamedTuple):
    """Reconstructions and what they cost.

    Args:
        images: ``(B, 3, H, W)``, not clamped.
        hyper_bits: of each picture's hyper-latent, ``(B,)``.
        latent_bits: of each picture's latents, ``(B,)``.
    """

    images: Tensor
    hyper_bits: Tensor
    latent_bits: Tensor


class RatedTokenizer(nn.Module):
    """What is trained together.

    Args:
        config: of the tokenizer.
        prior: of the prior's network.

    Raises:
        ConfigError: if the two do not fit.
    """

    def __init__(self, config: ScalarLatentConfig, prior: LatentPriorConfig) -> None:
        super().__init__()
        for name in ("slices", "hyper_channels", "points"):
            if getattr(config, name) != getattr(prior, name):
                raise ConfigError(
                    f"prior.{name}={getattr(prior, name)} given; expected the tokenizer's "
                    f"{getattr(config, name)}"
                )
        self.tokenizer = ScalarLatentTokenizer(config)
        self.prior = LatentPriorNetwork(prior)
        self.hyper_density = HyperDensity(config.hyper_channels, config.points)

    def initialize(self, images: Tensor) -> None:
        """Set what depends on data, from typical crops ``(B, 3, H, W)`` in [-1, 1]."""
        self.tokenizer.initialize(images)
        middle = torch.full((len(images), 1, 1), QUALITIES / 2)
        with torch.no_grad():
            latents = self.tokenizer.scaled_latents(images, middle).latents
        self.prior.set_deviations(latents.std(dim=(0, 2, 3)))

    def forward(
        self,
        images: Tensor,
        quality: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> RatedImages:
        """Code a batch.

        Args:
            images: ``(B, 3, H, W)`` in [-1, 1], sides multiples of 64.
            quality: of each picture, ``(B,)``, from 0 to 99.
            generator: of the noise that takes the place of rounding in the bits; None rounds.
        """
        places = quality[:, None, None]
        scaled = self.tokenizer.scaled_latents(images, places)
        whole = rounded(scaled)
        coded = whole if generator is None else _noisy(scaled, generator)
        points = self.tokenizer.point_weights(places)
        expected = self.prior(whole.hyper, whole.latents, points.permute(0, 3, 1, 2))
        latent_bits = gaussian_bits(coded.latents, expected)
        hyper_bits = self.hyper_density.bits(coded.hyper, points[:, 0, 0])
        return RatedImages(
            self.tokenizer.synthesised(whole.latents, places),
            hyper_bits.sum(dim=(1, 2, 3)),
            latent_bits.sum(dim=(1, 2, 3)),
        )


def _noisy(scaled: ScaledLatents, generator: torch.Generator) -> ScaledLatents:
    return ScaledLatents(
        *(
            values + torch.rand(values.shape, generator=generator).to(values.device) - 0.5
            for values in scaled
        )
    )


__all__ = ["RatedImages", "RatedTokenizer"]
