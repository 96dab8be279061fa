"""Published checkpoints to our modules, one file a family."""

from tessella.tokenizers.checkpoints import (
    diffusers_latent,
    infinity,
    mingtok,
    selftok,
    taesd,
    tokenflow,
    var,
    vgt_ae,
    vqgan,
    wetok,
)
from tessella.tokenizers.checkpoints.base import Format, convert, formats
from tessella.tokenizers.checkpoints.reading import read_checkpoint

__all__ = [
    "Format",
    "convert",
    "diffusers_latent",
    "formats",
    "infinity",
    "mingtok",
    "read_checkpoint",
    "selftok",
    "taesd",
    "tokenflow",
    "var",
    "vgt_ae",
    "vqgan",
    "wetok",
]
