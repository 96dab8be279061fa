"""Scalar latents as a codec: one model, qualities 1 to 100.

::

    picture --at a quality--> Tokens --zeros where the prior codes none--> --profile 3--> bytes
"""

from __future__ import annotations

import numpy as np
import torch

from tessella.codecs.base import Prepared, Qualities
from tessella.codecs.entropy.latent.model import LatentModel
from tessella.codecs.entropy.prior import Prior
from tessella.codecs.tokenizer_codec import TokenizerCodec, keep_leading
from tessella.errors import ConfigError
from tessella.images import Picture, Pixels, open_image
from tessella.tokenizers.scalar_latent import (
    HYPER_RANGE,
    LATENT_RANGE,
    QUALITIES,
    ScalarLatentTokenizer,
)
from tessella.tokenizers.tiling import Progress, encode_tiled
from tessella.tokens import Tokens

_DEFAULT = 50


class LatentCodec(TokenizerCodec):
    """Codes pictures with scalar latents and their prior.

    Args:
        tokenizer: makes and decodes the latents.
        prior: with a network for them.
        name: what to call it; the tokenizer's family by default.

    Raises:
        ConfigError: if the prior has no network.
    """

    tokenizer: ScalarLatentTokenizer

    def __init__(
        self, tokenizer: ScalarLatentTokenizer, prior: Prior | None, *, name: str | None = None
    ) -> None:
        if prior is None or prior.latent_model is None:
            raise ConfigError(
                "scalar latents given without the network of their prior; expected a prior file "
                "beside the model, made by training"
            )
        super().__init__(tokenizer, prior, name=name)
        self._model: LatentModel = prior.latent_model

    @property
    def settings(self) -> str:
        """The family, and the identities of token space and prior."""
        return super().settings.replace("keep=QUALITY", "quality=QUALITY")

    @property
    def qualities(self) -> Qualities:
        """1 to 100."""
        meaning = "the trade of rate for distortion, each step as much"
        return Qualities(1, QUALITIES, _DEFAULT, meaning)

    def encode(
        self,
        picture: Picture | Pixels,
        *,
        keep: int | None = None,
        quality: int | None = None,
        on_progress: Progress | None = None,
    ) -> Tokens:
        """Turn a picture of any size into tokens, by tiles where it is large.

        Args:
            picture: a path, a PIL image, or uint8 ``(H, W, 3)``.
            keep: how many levels; None keeps all.
            quality: 1 to 100.
            on_progress: called with the number of finished tiles and of all tiles.

        Raises:
            PictureError: if the picture cannot be read.
            ConfigError: if ``keep`` or ``quality`` is out of range.
        """
        tokenizer = self.tokenizer.at_quality(self.check_quality(quality) - 1)
        source = picture if isinstance(picture, np.ndarray) else open_image(picture)
        tokens = self._settled(encode_tiled(tokenizer, source, on_progress=on_progress))
        return keep_leading(tokens, keep)

    def prepare(self, picture: Picture | Pixels) -> Prepared:
        """Read a picture once."""
        source = picture if isinstance(picture, np.ndarray) else open_image(picture)

        def compress(quality: int | None = None) -> bytes:
            return self.compress(source, quality)

        return Prepared(compress, self.qualities)

    def compress(self, picture: Picture | Pixels, quality: int | None = None) -> bytes:
        """Return the token file of a picture at a quality of 1 to 100."""
        return self.pack(self.encode(picture, quality=quality))

    def _settled(self, tokens: Tokens) -> Tokens:
        """Set latents that the prior would not code to zero."""
        quality, hyper, *slices = (level[0].cpu().numpy() for level in tokens.levels)
        maps = np.concatenate(slices, axis=2).transpose(2, 0, 1) - LATENT_RANGE
        kept = self._model.settled(quality[..., 0], hyper.transpose(2, 0, 1) - HYPER_RANGE, maps)
        level = torch.from_numpy(np.ascontiguousarray(kept.transpose(1, 2, 0))) + LATENT_RANGE
        sizes = [part.shape[2] for part in slices]
        before = (part.cpu() for part in tokens.levels[:2])
        return Tokens((*before, *torch.split(level[None], sizes, dim=-1)), tokens.layout)


__all__ = ["LatentCodec"]
