"""The qualities at which codecs are compared, where none are asked for.

Classical codecs have seven each, chosen so that on photographs all of them run from about 0.1 to
1.5 bits per pixel: curves that begin and end alike overlap, and Bjontegaard deltas need overlap.
Tokenizers are taken at each number of parts they can keep, or at eight of them, in equal ratios.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from tessella.codecs.base import Codec, Qualities
from tessella.codecs.named import parse_codec
from tessella.errors import ConfigError, MissingDependencyError

_JPEG = (5, 10, 20, 35, 50, 70, 85)
_LADDERS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "jpeg": _JPEG,
        "jpeg-444": _JPEG,
        "jpeg-progressive": _JPEG,
        "jpeg-444-progressive": _JPEG,
        "webp": (0, 5, 10, 20, 40, 60, 80),
        "avif": (1, 10, 20, 30, 40, 50, 65),
        "jp2": (7, 15, 30, 45, 60, 85, 120),
        "jxl": (1, 10, 20, 40, 60, 70, 80),
    }
)
_MOST = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One codec as it was asked for.

    Args:
        name: what the codec calls itself.
        labels: ``NAME:QUALITY``, one a point.
    """

    name: str
    labels: tuple[str, ...]


def default_points(codec: Codec) -> tuple[int, ...]:
    """Return the qualities at which a codec is compared, rising.

    Example:
        >>> from tessella.codecs.classical import WebP
        >>> default_points(WebP())
        (0, 5, 10, 20, 40, 60, 80)
    """
    return _LADDERS.get(codec.name) or _spread(codec.qualities)


def expand(
    names: Sequence[str], *, device: str = "cpu"
) -> tuple[tuple[Entry, ...], dict[str, str]]:
    """Give every codec its qualities.

    Args:
        names: ``NAME`` for the default points, ``NAME:QUALITY`` for one; repeatable.
        device: where to put a tokenizer while its qualities are read.

    Returns:
        An entry for each codec that is here, in the order given, and why others are not here.

    Raises:
        ConfigError: if there is no such codec or quality, or none that is here.
        CheckpointError: if a model is damaged or cannot be fetched.
    """
    found: dict[tuple[str, str], dict[str, None]] = {}
    missing: dict[str, str] = {}
    for text in names:
        try:
            codec, quality, label = parse_codec(text, device=device)
        except MissingDependencyError as error:
            missing[text] = str(error)
            continue
        written = label if quality is None else label.rpartition(":")[0]
        points = default_points(codec) if quality is None else (quality,)
        labels = found.setdefault((codec.name, written), {})
        labels.update(dict.fromkeys(f"{written}:{point}" for point in points))
    if not found:
        reasons = "; ".join(missing.values()) or "no names given"
        raise ConfigError(f"no codec to measure: {reasons}; expected names, as in jpeg,webp:40")
    return tuple(Entry(name, tuple(labels)) for (name, _), labels in found.items()), missing


def _spread(qualities: Qualities) -> tuple[int, ...]:
    lowest, highest = qualities.lowest, qualities.highest
    if highest - lowest < _MOST:
        return tuple(range(lowest, highest + 1))
    points = np.geomspace(max(lowest, 1), highest, _MOST).round().astype(int)
    return tuple(sorted({int(point) for point in points}))


__all__ = ["Entry", "default_points", "expand"]
