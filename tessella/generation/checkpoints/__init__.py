"""Published generators: their state dicts to our modules."""

from tessella.generation.checkpoints import infinity, var
from tessella.generation.checkpoints.base import (
    convert_generator,
    generator_formats,
    register_generator_format,
)

__all__ = ["convert_generator", "generator_formats", "infinity", "register_generator_format", "var"]
