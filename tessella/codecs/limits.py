"""What a reader of token files accepts before it allocates anything."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds of the fields of a token file; pass another value to override one.

    Example:
        >>> Limits(pixels=2**30).pixels
        1073741824
    """

    side: int = 65535
    pixels: int = 2**27
    tokens: int = 2**24
    levels: int = 64
    groups: int = 256
    channels: int = 4096
    segments: int = 4096
    alphabet: int = 2**24
    table_alphabet: int = 2**20
    header_bytes: int = 2**16
    extra_bytes: int = 2**20
    json_depth: int = 8


DEFAULT_LIMITS = Limits()

__all__ = ["DEFAULT_LIMITS", "Limits"]
