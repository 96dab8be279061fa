"""Original and reconstruction under one divider, their amplified difference, and a closer look."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tessella.errors import ConfigError
from tessella.eval.report.parts import render

if TYPE_CHECKING:
    from markupsafe import Markup

_MEDIA_TYPES = ("image/png", "image/jpeg", "image/webp", "image/avif", "image/gif")


class PictureStore:
    """Encoded pictures of a page, each of them once.

    Example:
        >>> store = PictureStore()
        >>> store.add(b"abc", "image/png") == store.add(b"abc", "image/png")
        True
    """

    def __init__(self) -> None:
        self._uris: dict[str, str] = {}

    @property
    def uris(self) -> dict[str, str]:
        """The ``data:`` URIs by key."""
        return dict(self._uris)

    def add(self, data: bytes, media_type: str) -> str:
        """Take a picture in and return its key.

        Raises:
            ConfigError: if browsers show no such media type.
        """
        if media_type not in _MEDIA_TYPES:
            raise ConfigError(
                f"media type {media_type!r} given; expected {', '.join(_MEDIA_TYPES)}"
            )
        key = hashlib.sha256(media_type.encode() + b"\0" + data).hexdigest()[:24]
        self._uris[key] = f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
        return key


@dataclass(frozen=True, slots=True)
class Slide:
    """A picture and its reconstruction.

    Args:
        title: the picture's name.
        label: what made the reconstruction.
        original: key in the page's :class:`PictureStore`.
        reconstruction: key of a picture of the same size.
        facts: a line below.
        tag: a word that stands out, such as ``worst``; also a filter.
        group: such as its set; a filter.
    """

    title: str
    label: str
    original: str
    reconstruction: str
    facts: str = ""
    tag: str = ""
    group: str = ""


def slider_html(slides: Sequence[Slide]) -> Markup:
    """Return the sliders, with selectors where there are several groups, labels or tags."""
    filters = {
        name: list(dict.fromkeys(value for slide in slides if (value := getattr(slide, name))))
        for name in ("group", "label", "tag")
    }
    titles = {"group": "Set", "label": "Codec", "tag": "Show"}
    kept = [(name, titles[name], values) for name, values in filters.items() if len(values) > 1]
    return render("slider.html.j2", slides=slides, filters=kept)


__all__ = ["PictureStore", "Slide", "slider_html"]
