"""Continuous tokens on a grid: what autoencoders of latent diffusion make of a picture.

::

    image --encoder--> z (B, h, w, C) --(z - shift) scale--> Tokens --z--> decoder --> image

There is no codebook: a token is a vector of floats. Tokens are *standardised*, so that they have
about unit variance whatever the autoencoder, which is what generators of latents are trained on
and what makes one quantisation step suit all of them: token files store ``round(32 x)``, an error
of at most 1/64 of a standard deviation. ``scale`` and ``shift`` are properties of trained weights
(diffusers' ``scaling_factor`` and ``shift_factor``); they are 1 and 0 where nobody measured them.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tessella.config import to_dict
from tessella.errors import ConfigError
from tessella.identity import object_digest
from tessella.tokenizers.base import Tokenizer, TokenizerOutput
from tessella.tokens import LevelLayout, TokenLayout, Tokens

_EXPONENT = 5


class Latents(NamedTuple):
    """What an encoder makes of a batch in training.

    Args:
        values: ``(B, h, w, C)``, not standardised; a sample where the bottleneck is random.
        losses: weighted scalar terms.
        stats: detached numbers worth a curve.
    """

    values: Tensor
    losses: dict[str, Tensor]
    stats: dict[str, Tensor]


class ContinuousTokenizer(Tokenizer):
    """A tokenizer whose tokens are standardised floats, in one level or several.

    Args:
        config: a dataclass with ``latent_channels``, ``scale`` and ``shift``.
    """

    @property
    def latent_exponent(self) -> int:
        """Token files store ``round(x 2^5)``."""
        return _EXPONENT

    @abstractmethod
    def space_tensors(self) -> dict[str, Tensor]:
        """The last layer of the encoder, which a fine-tuned decoder leaves as it is."""

    @property
    def space_id(self) -> str:
        """Identity of the token space: SHA-256 over the config and the last layer's signs.

        Signs survive a cast to half precision, after which the tokens still mean the same.
        """
        signs = {k: torch.signbit(v).to(torch.uint8) for k, v in self.space_tensors().items()}
        return object_digest(
            {"tokenizer": self.family, "config": to_dict(self.config)}, signs
        ).hex()

    def standardised(self, latents: Tensor) -> Tensor:
        """Turn latents of the network into the float32 values of tokens."""
        scale, shift = float(self.config.scale), float(self.config.shift)
        return (latents.float() - shift) * scale

    def unstandardised(self, values: Tensor) -> Tensor:
        """Turn the values of tokens into latents of the network, in the type of its weights."""
        scale, shift = float(self.config.scale), float(self.config.shift)
        return (values.float() / scale + shift).to(self.dtype)


class LatentTokenizer(ContinuousTokenizer):
    """A tokenizer with one level of floats ``(B, h, w, C)``."""

    @abstractmethod
    def images_to_latents(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to latents ``(B, h, w, C)``, not standardised."""

    @abstractmethod
    def latents_to_images(self, latents: Tensor) -> Tensor:
        """Map latents ``(B, h, w, C)``, not standardised, to images, not clamped."""

    def layout(self, height: int, width: int) -> TokenLayout:
        """Return the layout: one continuous level."""
        grid = (-(-height // self.stride), -(-width // self.stride))
        level = LevelLayout(grid, channels=self.config.latent_channels)
        return TokenLayout((level,), (height, width), self.space_id)

    def forward(
        self, images: Tensor, *, generator: torch.Generator | None = None
    ) -> TokenizerOutput:
        """Reconstruct a batch with the losses of the bottleneck."""
        found = self._training_latents(images, generator)
        values = self.standardised(found.values.detach())
        tokens = Tokens((values,), self.layout(*images.shape[-2:]))
        outputs = self.latents_to_images(found.values)
        return TokenizerOutput(outputs, tokens, found.losses, found.stats)

    def _training_latents(self, images: Tensor, generator: torch.Generator | None) -> Latents:
        """Encode a batch for training; without randomness and losses by default."""
        return Latents(self.images_to_latents(images), {}, {})

    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.standardised(self.images_to_latents(images)),)

    def _decode(self, tokens: Tokens, generator: torch.Generator | None) -> Tensor:
        return self.latents_to_images(self.unstandardised(tokens.levels[0]))


def check_scale(config: Any) -> None:
    """Check the fields that every config of a latent tokenizer has.

    Raises:
        ConfigError: if there are no channels, or the scale is not above zero.
    """
    if config.latent_channels < 1 or not config.scale > 0:
        raise ConfigError(
            f"latent_channels={config.latent_channels}, scale={config.scale} given; expected at "
            "least 1 channel and a scale above 0"
        )


__all__ = ["ContinuousTokenizer", "LatentTokenizer", "Latents", "check_scale"]
