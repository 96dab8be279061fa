"""Renaming the tensors of a state dict by patterns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

Rule = tuple[str, str | Callable[[re.Match[str]], str]]


def renamed(state: Mapping[str, Tensor], rules: Iterable[Rule]) -> dict[str, Tensor]:
    """Return the tensors under new names.

    Args:
        state: tensors by name.
        rules: ``(pattern, replacement)`` as of :func:`re.sub`; every rule is applied, in order.
    """
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    result = {}
    for name, tensor in state.items():
        for pattern, replacement in compiled:
            name = pattern.sub(replacement, name)
        result[name] = tensor
    return result


def without(state: Mapping[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    """Return the tensors whose names do not start with any of the prefixes."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}


def count(state: Mapping[str, Tensor], pattern: str) -> int:
    """Return one more than the largest number that the pattern's group matches; 0 for none."""
    found = [int(m[1]) for m in (re.match(pattern, name) for name in state) if m]
    return max(found, default=-1) + 1


__all__ = ["Rule", "count", "renamed", "without"]
