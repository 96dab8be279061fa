"""Published checkpoints to our modules, one file a family."""

from tessella.tokenizers.checkpoints import (
    diffusers_latent,
    infinity,
    maskgit_vqgan,
    mcquic,
    mingtok,
    selftok,
    taesd,
    titok,
    tokenflow,
    var,
    vgt_ae,
    vqgan,
    wetok,
)
from tessella.tokenizers.checkpoints.base import Format, convert, count_averages, formats
from tessella.tokenizers.checkpoints.reading import read_checkpoint

__all__ = [
    "Format",
    "convert",
    "count_averages",
    "diffusers_latent",
    "formats",
    "infinity",
    "maskgit_vqgan",
    "mcquic",
    "mingtok",
    "read_checkpoint",
    "selftok",
    "taesd",
    "titok",
    "tokenflow",
    "var",
    "vgt_ae",
    "vqgan",
    "wetok",
]
