"""The registry of generator families."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessella.families import Families, Preset

if TYPE_CHECKING:
    from tessella.generation.base import Generator

GENERATORS: Families[Generator] = Families("generator")
register = GENERATORS.register

__all__ = ["GENERATORS", "Preset", "register"]
