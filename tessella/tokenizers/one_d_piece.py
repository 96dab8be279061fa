"""One-D-Piece: TiTok whose first tokens carry the most, so that any prefix decodes.

::

    image --TiTok's encoder--> t_1 ... t_N
    training:  t_1 ... t_k --TiTok's decoder--> image,   k ~ uniform{1, ..., N}, anew at every step

*Tail token drop* (arXiv 2501.10064) is the whole difference. The tokens that a step drops are not
replaced: attention runs over a shorter sequence. The encoder and the bottleneck's losses see all N.
With 256 tokens of 12 bits a picture of 256x256 pixels takes 2 bytes to 384.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from tessella.tokenizers.layers.latent_tokens import TransformerSize
from tessella.tokenizers.maskgit_vqgan import MaskGITVQGANConfig
from tessella.tokenizers.registry import Preset, register
from tessella.tokenizers.titok import TiTok
from tessella.tokenizers.titok_sizes import SIZES, TiTokConfig


@dataclass(frozen=True, slots=True)
class OneDPieceConfig(TiTokConfig):
    """Sizes of a One-D-Piece tokenizer: see :class:`~tessella.tokenizers.titok_sizes.TiTokConfig`.

    Args:
        tokens: number ``N`` of tokens, from 1 to which training draws how many it decodes.
    """

    tokens: int = 256


def _published(size: str) -> Preset:
    return Preset(
        f"one-d-piece-{size}-256",
        OneDPieceConfig(encoder=SIZES[size], decoder=SIZES[size]),
        "Apache-2.0",
        "2501.10064",
        f"https://huggingface.co/turing-motors/One-D-Piece-{size.upper()}-256",
    )


@register(
    "one_d_piece",
    config=OneDPieceConfig,
    presets=(
        *(_published(size) for size in "sbl"),
        Preset(
            "one-d-piece-tiny",
            OneDPieceConfig(
                image_size=32,
                patch=8,
                tokens=8,
                encoder=TransformerSize(16, 1, 2),
                decoder=TransformerSize(16, 1, 2),
                codebook_size=32,
                code_dim=4,
                proxy=MaskGITVQGANConfig(
                    channels=8,
                    multipliers=(1, 1, 1, 1),
                    blocks=1,
                    latent_channels=8,
                    codebook_size=16,
                    norm_groups=4,
                ),
            ),
            note="for tests",
        ),
    ),
)
class OneDPiece(TiTok):
    """Tokenizer with a sequence of latent tokens, any first ones of which decode.

    The first tokens of a tiled picture are those of all its squares; where they do not share them
    evenly, tokens that not every square has are left out, and one token a square is the least.

    Example:
        >>> model = OneDPiece(OneDPieceConfig(encoder=SIZES["s"], decoder=SIZES["s"]))
        >>> model.layout(256, 256).truncate(length=8).bits / 8
        12.0
    """

    config: OneDPieceConfig
    is_ordered: ClassVar[bool] = True

    def _kept_length(self, generator: torch.Generator | None) -> int:
        """Draw how many tokens a training step decodes; all of them in evaluation mode."""
        if not self.training:
            return self.config.tokens
        device = generator.device if generator is not None else torch.device("cpu")
        drawn = torch.randint(1, self.config.tokens + 1, (1,), generator=generator, device=device)
        return int(drawn)


__all__ = ["OneDPiece", "OneDPieceConfig"]
