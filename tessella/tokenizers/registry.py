"""The registry of tokenizer families: filled by decorators at import, read-only afterwards.

A family is a config dataclass, a module class and a few presets (named sizes). Weights never name
a class to import: a saved model names its family, and the family must be registered here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from tessella.config import nearest
from tessella.errors import ConfigError

if TYPE_CHECKING:
    from tessella.tokenizers.base import Tokenizer

C = TypeVar("C", bound="type[Tokenizer]")


@dataclass(frozen=True)
class Preset:
    """One named size of a family.

    Args:
        name: lower case with ``-``: family, size, factor, codebook.
        config: the family's config dataclass.
        licence: SPDX name of the weights' licence, or of the code where there are no weights.
        paper: arXiv id or short reference.
        source: where weights come from; empty for presets to be trained.
        note: one sentence.
    """

    name: str
    config: Any
    licence: str = "Apache-2.0"
    paper: str = ""
    source: str = ""
    note: str = ""


@dataclass(frozen=True)
class Family:
    """A registered tokenizer family."""

    name: str
    config_class: type
    tokenizer_class: type[Tokenizer]
    presets: tuple[Preset, ...]


_FAMILIES: dict[str, Family] = {}


def register(name: str, *, config: type, presets: tuple[Preset, ...] = ()) -> Callable[[C], C]:
    """Register a tokenizer class under a family name.

    Raises:
        ConfigError: if the family or one of its preset names is taken.
    """

    def add(cls: C) -> C:
        taken = set(all_presets())
        if name in _FAMILIES or any(p.name in taken for p in presets):
            raise ConfigError(f"tokenizer family or preset of {name!r} is registered twice")
        cls.family = name
        cls.config_class = config
        _FAMILIES[name] = Family(name, config, cls, presets)
        return cls

    return add


def families() -> Mapping[str, Family]:
    """All registered families by name."""
    return MappingProxyType(_FAMILIES)


def family(name: str) -> Family:
    """Return a family.

    Raises:
        ConfigError: if the name is unknown.
    """
    if name not in _FAMILIES:
        raise ConfigError(f"tokenizer family {name!r} is unknown; {nearest(name, list(_FAMILIES))}")
    return _FAMILIES[name]


def all_presets() -> dict[str, tuple[Family, Preset]]:
    """All presets by name, with their family."""
    return {p.name: (f, p) for f in _FAMILIES.values() for p in f.presets}


__all__ = ["Family", "Preset", "all_presets", "families", "family", "register"]
