"""Families of models: a config dataclass, a class, and a few presets (named sizes).

A registry is filled by decorators at import and read-only afterwards. Weights never name a class to
import: a saved model names its family, and the family must be registered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from tessella.config import nearest
from tessella.errors import ConfigError

T = TypeVar("T")
C = TypeVar("C", bound=type)


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
        tokenizer: of generators: the preset of the tokenizer whose tokens they write.
    """

    name: str
    config: Any
    licence: str = "Apache-2.0"
    paper: str = ""
    source: str = ""
    note: str = ""
    tokenizer: str = ""


@dataclass(frozen=True)
class RegisteredFamily(Generic[T]):
    """A family: its name, config dataclass, class and presets."""

    name: str
    config_class: type
    model_class: type[T]
    presets: tuple[Preset, ...]


class Families(Generic[T]):
    """The registered families of one kind of model.

    Args:
        kind: what they are, for messages: ``tokenizer``, ``generator``.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._families: dict[str, RegisteredFamily[T]] = {}

    def register(
        self, name: str, *, config: type, presets: tuple[Preset, ...] = ()
    ) -> Callable[[C], C]:
        """Register a class under a family name; gives it ``family`` and ``config_class``.

        Raises:
            ConfigError: if the family or one of its preset names is taken.
        """

        def add(cls: C) -> C:
            taken = set(self.presets())
            if name in self._families or any(p.name in taken for p in presets):
                raise ConfigError(f"{self._kind} family or preset of {name!r} is registered twice")
            cls.family = name  # type: ignore[attr-defined]
            cls.config_class = config  # type: ignore[attr-defined]
            self._families[name] = RegisteredFamily(name, config, cls, presets)
            return cls

        return add

    def all(self) -> Mapping[str, RegisteredFamily[T]]:
        """All families by name."""
        return MappingProxyType(self._families)

    def get(self, name: str) -> RegisteredFamily[T]:
        """Return a family.

        Raises:
            ConfigError: if the name is unknown.
        """
        if name not in self._families:
            hint = nearest(name, list(self._families))
            raise ConfigError(f"{self._kind} family {name!r} is unknown; {hint}")
        return self._families[name]

    def presets(self) -> dict[str, tuple[RegisteredFamily[T], Preset]]:
        """All presets by name, with their family."""
        return {p.name: (f, p) for f in self._families.values() for p in f.presets}

    def preset(self, name: str) -> tuple[RegisteredFamily[T], Preset]:
        """Return a preset and its family.

        Raises:
            ConfigError: if the name is unknown.
        """
        presets = self.presets()
        if name not in presets:
            raise ConfigError(f"preset {name!r} is unknown; {nearest(name, sorted(presets))}")
        return presets[name]

    def of_config(self, config: Any) -> RegisteredFamily[T]:
        """Return the family whose config dataclass that is."""
        return next(f for f in self._families.values() if f.config_class is type(config))


__all__ = ["Families", "Preset", "RegisteredFamily"]
