"""TA-TiTok: TiTok whose decoder also reads a caption (arXiv 2501.07730).

::

    image --TiTok's encoder--> N tokens
    [class | mask tokens | N tokens | T text tokens] --ViT--> patches --> image

The caption says what the tokens then need not: as few as 32 of them draw a picture. Its tokens are
states of CLIP ViT-L/14-336's text transformer after the last normalisation and before the
projection. Codes that training leaves unused follow the vectors of the batch
(:class:`~tessella.tokenizers.quantizers.ClusteringVQ`).

Published decoders were always given a caption. Where none is given, a learned one stands in; that
of converted checkpoints is zero, which leaves the sequence as long as it was in their training and
says nothing, at the price of details that a caption would have told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from tessella.errors import ConfigError
from tessella.tokenizers.base import TokenizerOutput
from tessella.tokenizers.layers.latent_tokens import TransformerSize
from tessella.tokenizers.registry import Preset, register
from tessella.tokenizers.titok import TiTok
from tessella.tokenizers.titok_sizes import SIZES, TiTokConfig
from tessella.tokens import Tokens


@dataclass(frozen=True, slots=True)
class TATiTokConfig(TiTokConfig):
    """Sizes of a TA-TiTok tokenizer: see :class:`~tessella.tokenizers.titok_sizes.TiTokConfig`.

    Args:
        text_length: number ``T`` of text tokens.
        text_width: their channels ``C``.
    """

    encoder: TransformerSize = SIZES["b"]
    codebook_size: int = 8192
    code_dim: int = 64
    is_cosine: bool = False
    is_clustering: bool = True
    head: Literal["proxy", "pixels"] = "pixels"
    text_length: int = 77
    text_width: int = 768

    def __post_init__(self) -> None:
        TiTokConfig.__post_init__(self)  # super() knows nothing of the class that slots make
        if self.text_length < 1 or self.text_width < 1:
            raise ConfigError(
                f"text_length={self.text_length}, text_width={self.text_width} given; expected at "
                "least 1: use titok for a decoder without text"
            )


def _published(sizes: str, tokens: int, kind: str) -> Preset:
    encoder, decoder = (SIZES[size] for size in sizes)
    config = TATiTokConfig(tokens=tokens, encoder=encoder, decoder=decoder)
    if kind == "vae":
        config = replace(config, codebook_size=0, code_dim=16, is_clustering=False)
    return Preset(
        f"ta-titok-{sizes}-{tokens}-{kind}",
        config,
        "Apache-2.0",
        "2501.07730",
        f"https://huggingface.co/turkeyju/tokenizer_tatitok_{sizes}{tokens}_{kind}",
        "weights for research, as their authors say",
    )


@register(
    "ta_titok",
    config=TATiTokConfig,
    presets=(
        *(_published("bl", tokens, "vq") for tokens in (32, 64, 128)),
        *(_published(s, n, "vae") for s, n in (("bl", 32), ("bl", 64), ("sl", 128))),
        Preset(
            "ta-titok-tiny",
            TATiTokConfig(
                image_size=32,
                patch=8,
                tokens=8,
                encoder=TransformerSize(16, 1, 2),
                decoder=TransformerSize(16, 1, 2),
                codebook_size=32,
                code_dim=4,
                text_length=3,
                text_width=8,
            ),
            note="for tests",
        ),
    ),
)
class TATiTok(TiTok):
    """Tokenizer with a sequence of latent tokens and a decoder that reads a caption.

    Example:
        >>> model = TATiTok(TATiTokConfig(encoder=SIZES["s"], decoder=SIZES["s"]))
        >>> tokens = model.encode(torch.zeros(1, 3, 256, 256))
        >>> tuple(model.decode(tokens, text=torch.zeros(1, 77, 768)).shape)
        (1, 3, 256, 256)
    """

    config: TATiTokConfig

    def __init__(self, config: TATiTokConfig) -> None:
        super().__init__(config, text_length=config.text_length, text_width=config.text_width)

    def decode(
        self,
        tokens: Tokens,
        *,
        generator: torch.Generator | None = None,
        text: Tensor | None = None,
    ) -> Tensor:
        """Turn tokens into pictures ``(B, 3, H, W)`` in [-1, 1], clamped and cropped.

        Args:
            tokens: all tokens of this tokenizer.
            generator: unused.
            text: captions ``(B, T, C)``, see the module's text; None for the learned one.

        Raises:
            ShapeError: if tokens or text do not fit.
        """
        if text is None:
            return super().decode(tokens, generator=generator)
        self.check_tokens(tokens)
        height, width = tokens.layout.image_size
        with self._inference():
            images = self._images_of(tokens.to(self.device), text.to(self.device, self.dtype))
        return images[..., :height, :width].float().clamp(-1, 1)

    def forward(
        self,
        images: Tensor,
        *,
        generator: torch.Generator | None = None,
        text: Tensor | None = None,
    ) -> TokenizerOutput:
        """Reconstruct a batch with the bottleneck's losses.

        Args:
            images: ``(B, 3, H, W)`` in [-1, 1].
            generator: draws continuous tokens.
            text: captions ``(B, T, C)``; None for the learned one.
        """
        return self._reconstructed(images, generator, text)


__all__ = ["TATiTok", "TATiTokConfig"]
