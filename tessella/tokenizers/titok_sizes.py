"""Sizes of TiTok (arXiv 2406.07550), those of the published models by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tessella.errors import ConfigError
from tessella.tokenizers.layers.latent_tokens import BASE, LARGE, SMALL, TransformerSize
from tessella.tokenizers.layers.squares import OtherSizes
from tessella.tokenizers.maskgit_vqgan import MaskGITVQGANConfig
from tessella.tokenizers.registry import Preset

ProxyParts = Literal["none", "decoder", "whole"]

SIZES = {"s": SMALL, "b": BASE, "l": LARGE}


@dataclass(frozen=True, slots=True)
class TiTokConfig:
    """Sizes of a tokenizer with latent tokens.

    Args:
        image_size: side of the network's pictures in pixels.
        patch: side of a patch in pixels.
        tokens: number ``N`` of tokens.
        encoder: size of the encoder.
        decoder: size of the decoder.
        codebook_size: ``K``; 0 for continuous tokens.
        code_dim: width ``D`` of the codes, or channels of continuous tokens.
        is_cosine: whether vectors and codes are compared on the unit sphere.
        is_clustering: whether unused codes follow the vectors of the batch.
        head: how the decoder draws, see the module's text; ``proxy`` also reads a token's vector
            from all latents, as the first published models do.
        proxy: sizes of the VQGAN whose codes the ``proxy`` head predicts.
        proxy_parts: what the model holds of it, see the module's text.
        other_sizes: ``resize`` pictures of other sizes to the network's and back, or ``tile`` them
            with squares of that size, which have their own N tokens each.
        kl_weight: factor of the KL term of continuous tokens.
    """

    image_size: int = 256
    patch: int = 16
    tokens: int = 32
    encoder: TransformerSize = LARGE
    decoder: TransformerSize = LARGE
    codebook_size: int = 4096
    code_dim: int = 12
    is_cosine: bool = True
    is_clustering: bool = False
    head: Literal["proxy", "pixels"] = "proxy"
    proxy: MaskGITVQGANConfig = field(default_factory=MaskGITVQGANConfig)
    proxy_parts: ProxyParts = "decoder"
    other_sizes: OtherSizes = "resize"
    kl_weight: float = 1e-6

    def __post_init__(self) -> None:
        if self.patch < 1 or self.image_size < 1 or self.image_size % self.patch:
            raise ConfigError(
                f"image_size={self.image_size}, patch={self.patch} given; expected a multiple of "
                "the patch"
            )
        codes = self.codebook_size
        if self.tokens < 1 or self.code_dim < 1 or codes < 0 or codes == 1:
            raise ConfigError(
                f"tokens={self.tokens}, code_dim={self.code_dim}, codebook_size={codes} given; "
                "expected at least 1 token of 1 channel, and 2 codes or 0 for continuous tokens"
            )
        if self.is_clustering and (self.is_cosine or not codes):
            raise ConfigError(
                "is_clustering given with is_cosine or without codes; expected a codebook that is "
                "compared by distance: set is_cosine to false"
            )
        has_targets = self.head == "proxy" and self.proxy_parts == "whole"
        if has_targets and 2 ** (len(self.proxy.multipliers) - 1) != self.patch:
            raise ConfigError(
                f"patch={self.patch}, proxy.multipliers={self.proxy.multipliers} given; expected "
                "a VQGAN with one code a patch: a side is halved after each but the last"
            )

    @property
    def grid(self) -> int:
        """Side of the network's pictures in patches."""
        return self.image_size // self.patch


def one_stage(tokens: int, encoder: str, decoder: str, kind: str) -> TiTokConfig:
    """Return sizes of a published model with the pixel head.

    Args:
        tokens: ``N``.
        encoder: ``s``, ``b`` or ``l``.
        decoder: the same.
        kind: ``vq``, 8192 codes of width 64, or ``vae``, 16 channels.
    """
    return TiTokConfig(
        tokens=tokens,
        encoder=SIZES[encoder],
        decoder=SIZES[decoder],
        codebook_size=8192 if kind == "vq" else 0,
        code_dim=64 if kind == "vq" else 16,
        is_cosine=False,
        head="pixels",
    )


_PAPER = "2406.07550"
_HUB = "https://huggingface.co/yucornetto/tokenizer_titok"


def _two_stage(size: str, tokens: int) -> Preset:
    config = TiTokConfig(tokens=tokens, encoder=SIZES[size], decoder=SIZES[size])
    source = f"{_HUB}_{size}{tokens}_imagenet"
    return Preset(f"titok-{size}-{tokens}", config, "Apache-2.0", _PAPER, source)


def _one_stage(sizes: str, tokens: int, kind: str) -> Preset:
    name, file = ("vq8k", "vq8k") if kind == "vq" else ("vae", "vae_c16")
    config = one_stage(tokens, sizes[0], sizes[1], kind)
    source = f"{_HUB}_{sizes}{tokens}_{file}_imagenet"
    return Preset(f"titok-{sizes}-{tokens}-{name}", config, "Apache-2.0", _PAPER, source)


PRESETS = (
    *(_two_stage(size, tokens) for size, tokens in (("l", 32), ("b", 64), ("s", 128))),
    *(_one_stage(s, n, "vq") for s, n in (("bl", 64), ("bl", 128), ("sl", 256))),
    *(_one_stage(s, n, "vae") for s, n in (("ll", 32), ("bl", 64), ("bl", 128))),
    Preset(
        "titok-tiny",
        TiTokConfig(
            image_size=32,
            patch=8,
            tokens=8,
            encoder=TransformerSize(16, 1, 2),
            decoder=TransformerSize(16, 1, 2),
            codebook_size=0,
            code_dim=4,
            is_cosine=False,
            head="pixels",
            other_sizes="tile",
        ),
        note="for tests; continuous tokens, and squares of pictures of other sizes",
    ),
)

__all__ = ["PRESETS", "SIZES", "ProxyParts", "TiTokConfig", "one_stage"]
