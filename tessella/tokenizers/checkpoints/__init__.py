"""Published checkpoints to our modules, one file a family."""

from tessella.tokenizers.checkpoints import vqgan
from tessella.tokenizers.checkpoints.base import Format, convert, formats
from tessella.tokenizers.checkpoints.reading import read_checkpoint

__all__ = ["Format", "convert", "formats", "read_checkpoint", "vqgan"]
