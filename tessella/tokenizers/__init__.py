"""Tokenizers: pictures to :class:`~tessella.tokens.Tokens` and back."""

from tessella.tokenizers import (
    autoencoder_dc,
    autoencoder_kl,
    autoencoder_tiny,
    hieratok,
    maskgit_vqgan,
    mingtok,
    multiscale_bsq,
    multiscale_vq,
    one_d_piece,
    progressive_gq,
    selftok,
    ta_titok,
    titok,
    tokenflow,
    vgt_ae,
    vqgan,
    wetok,
)
from tessella.tokenizers.base import Tokenizer, TokenizerOutput
from tessella.tokenizers.registry import Preset, families, register

__all__ = [
    "Preset",
    "Tokenizer",
    "TokenizerOutput",
    "autoencoder_dc",
    "autoencoder_kl",
    "autoencoder_tiny",
    "families",
    "hieratok",
    "maskgit_vqgan",
    "mingtok",
    "multiscale_bsq",
    "multiscale_vq",
    "one_d_piece",
    "progressive_gq",
    "register",
    "selftok",
    "ta_titok",
    "titok",
    "tokenflow",
    "vgt_ae",
    "vqgan",
    "wetok",
]
