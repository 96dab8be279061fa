"""Tokenizers of one map of indices: a network, nearest codes, and a network back.

::

    images --images_to_latents--> (B, h, w, D) --quantizer--> indices (B, h, w, 1)
    indices --codes (B, h, w, D)--latents_to_images--> images
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from tessella.tokenizers.base import Tokenizer, TokenizerOutput
from tessella.tokenizers.quantizers.base import Quantizer
from tessella.tokens import LevelLayout, TokenLayout, Tokens


class GridTokenizer(Tokenizer):
    """Subclasses set ``quantizer``, and map images to latents and back.

    Their config has ``multipliers``, one a resolution, halved from one to the next.
    """

    quantizer: Quantizer

    @abstractmethod
    def images_to_latents(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` in [-1, 1] to unquantized vectors ``(B, h, w, D)``."""

    @abstractmethod
    def latents_to_images(self, latents: Tensor) -> Tensor:
        """Map codes ``(B, h, w, D)`` to images ``(B, 3, H, W)``, not clamped."""

    @property
    def stride(self) -> int:
        """Pixels of a grid step."""
        return int(2 ** (len(self.config.multipliers) - 1))

    def layout(self, height: int, width: int) -> TokenLayout:
        """Return the layout: one level of one index a position."""
        grid = (-(-height // self.stride), -(-width // self.stride))
        level = LevelLayout(grid, self.quantizer.vocab_sizes)
        return TokenLayout((level,), (height, width), self.space_id)

    def space_tensors(self) -> dict[str, Tensor]:
        """The codebook: what an index stands for."""
        return dict(self.quantizer.state_dict())

    def forward(
        self, images: Tensor, *, generator: torch.Generator | None = None
    ) -> TokenizerOutput:
        """Reconstruct a batch with the quantizer's losses."""
        found = self.quantizer(self.images_to_latents(images), generator=generator)
        tokens = Tokens((found.indices,), self.layout(*images.shape[-2:]))
        outputs = self.latents_to_images(found.z_q)
        return TokenizerOutput(outputs, tokens, found.losses, found.stats)

    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.quantizer(self.images_to_latents(images)).indices,)

    def _decode(self, tokens: Tokens, generator: torch.Generator | None) -> Tensor:
        codes = self.quantizer.indices_to_codes(tokens.levels[0])
        return self.latents_to_images(codes.to(self.dtype))


__all__ = ["GridTokenizer"]
