"""Generators: conditions to :class:`~tessella.tokens.Tokens`."""

from tessella.generation import infinity, var
from tessella.generation.base import Generator, GeneratorOutput
from tessella.generation.editing import Known
from tessella.generation.registry import GENERATORS
from tessella.generation.sampling import Sampling
from tessella.generation.text import Prompts

__all__ = [
    "GENERATORS",
    "Generator",
    "GeneratorOutput",
    "Known",
    "Prompts",
    "Sampling",
    "infinity",
    "var",
]
