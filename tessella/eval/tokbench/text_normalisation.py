"""What two texts may differ in and still count as the same: stated beside the figure.

Labels of scanned receipts are in capitals whatever is printed, and their spaces follow the column
layout; there the strict comparison of TokBench (arXiv 2505.18142) measures the annotators.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from tessella.errors import ConfigError

Normalisation = Literal["strict", "loose", "alphanumeric"]


def _loose(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _alphanumeric(text: str) -> str:
    return "".join(character for character in _loose(text) if character.isalnum())


_RULES: Mapping[str, tuple[str, Callable[[str], str]]] = MappingProxyType(
    {
        "strict": ("every character counts", lambda text: text),
        "loose": ("Unicode NFKC, case and spaces ignored", _loose),
        "alphanumeric": (
            "Unicode NFKC, letters and digits only, case ignored",
            _alphanumeric,
        ),
    }
)


def normalised(text: str, rule: Normalisation = "strict") -> str:
    """Return a text as it is compared.

    Args:
        text: a label or what was read.
        rule: ``strict`` leaves it alone; ``loose`` drops case and spaces; ``alphanumeric`` drops
            punctuation too, as tables of scene-text recognition do.

    Raises:
        ConfigError: if there is no such rule.
    """
    return _rule(rule)[1](text)


def described(rule: Normalisation) -> str:
    """Return in words what a rule ignores, for reports.

    Raises:
        ConfigError: if there is no such rule.
    """
    return _rule(rule)[0]


def _rule(name: str) -> tuple[str, Callable[[str], str]]:
    try:
        return _RULES[name]
    except KeyError as error:
        raise ConfigError(f"normalisation {name!r} given; expected {', '.join(_RULES)}") from error


__all__ = ["Normalisation", "described", "normalised"]
