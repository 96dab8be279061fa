"""Numbers as people read them."""

from __future__ import annotations


def spaced(number: int) -> str:
    """Group the digits of a number by three.

    Example:
        >>> spaced(12288)
        '12 288'
    """
    return f"{number:,}".replace(",", " ")


def size(num_bytes: int) -> str:
    """Return bytes, kB or MB (powers of 1000).

    Example:
        >>> size(812), size(9800), size(12_340_000)
        ('812 B', '9.8 kB', '12.3 MB')
    """
    if num_bytes < 1000:
        return f"{num_bytes} B"
    if num_bytes < 999_950:
        return f"{num_bytes / 1000:.1f} kB"
    return f"{num_bytes / 10**6:.1f} MB"


def rate(bpp: float) -> str:
    """Return bits per pixel with two decimals, three below a tenth.

    Example:
        >>> rate(0.2042), rate(0.0154)
        ('0.20 bpp', '0.015 bpp')
    """
    return f"{bpp:.2f} bpp" if bpp >= 0.1 else f"{bpp:.3f} bpp"


__all__ = ["rate", "size", "spaced"]
