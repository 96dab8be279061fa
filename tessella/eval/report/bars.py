"""Horizontal bars with their values beside, in plain HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tessella.errors import ConfigError
from tessella.eval.report.parts import render

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Bars:
    """Groups of bars on one scale from 0.

    Args:
        title: above them.
        names: of the bars in each group.
        groups: labels, and a value a name; None for missing.
        unit: behind the values.
        caption: below them.
    """

    title: str
    names: Sequence[str]
    groups: Sequence[tuple[str, Sequence[float | None]]]
    unit: str = ""
    caption: str = ""


def bars_html(bars: Bars) -> Markup:
    """Return the bars.

    Raises:
        ConfigError: if a group has not as many values as there are names, or one is negative or
            not finite.
    """
    for label, values in bars.groups:
        known = [value for value in values if value is not None]
        if len(values) != len(bars.names) or not all(math.isfinite(v) and v >= 0 for v in known):
            raise ConfigError(
                f"bars {list(values)} of {label!r} given; expected {len(bars.names)} values, "
                "finite and not negative, or None"
            )
    longest = max((v for _, values in bars.groups for v in values if v is not None), default=0.0)
    groups = [
        (label, [(value, 100 * value / longest if value and longest else 0.0) for value in values])
        for label, values in bars.groups
    ]
    return render("bars.html.j2", bars=bars, groups=groups)


__all__ = ["Bars", "bars_html"]
