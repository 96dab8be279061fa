"""Building blocks shared by the tokenizers."""

from tessella.tokenizers.layers.conv import ResidualBlock

__all__ = ["ResidualBlock"]
