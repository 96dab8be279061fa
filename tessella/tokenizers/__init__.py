"""Tokenizers: pictures to :class:`~tessella.tokens.Tokens` and back."""

from tessella.tokenizers import progressive_gq, vqgan
from tessella.tokenizers.base import Tokenizer, TokenizerOutput
from tessella.tokenizers.registry import Preset, families, register

__all__ = [
    "Preset",
    "Tokenizer",
    "TokenizerOutput",
    "families",
    "progressive_gq",
    "register",
    "vqgan",
]
