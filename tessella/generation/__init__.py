"""Generators: conditions to :class:`~tessella.tokens.Tokens`."""

from tessella.generation import var
from tessella.generation.base import Generator, GeneratorOutput
from tessella.generation.editing import Known
from tessella.generation.registry import GENERATORS
from tessella.generation.sampling import Sampling

__all__ = ["GENERATORS", "Generator", "GeneratorOutput", "Known", "Sampling", "var"]
