"""Limits of token files for pictures of a known largest size."""

from __future__ import annotations

from dataclasses import replace

from tessella.codecs.limits import DEFAULT_LIMITS, Limits

_ANY_SIDE = 2**32 - 1
_ANY_COUNT = 2**48


def limits_for(max_pixels: int | None) -> Limits:
    """Return limits for pictures of at most ``max_pixels``; None for any size.

    Beyond the default number of pixels their sides and numbers of tokens may grow as well.
    """
    if max_pixels is None:
        return replace(DEFAULT_LIMITS, side=_ANY_SIDE, pixels=_ANY_COUNT, tokens=_ANY_COUNT)
    if max_pixels <= DEFAULT_LIMITS.pixels:
        return replace(DEFAULT_LIMITS, pixels=max_pixels)
    side = min(max_pixels, _ANY_SIDE)
    return replace(DEFAULT_LIMITS, side=side, pixels=max_pixels, tokens=max_pixels)


__all__ = ["limits_for"]
