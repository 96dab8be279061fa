"""Frame of a report: one HTML file without anything from outside.

Every value is escaped by the templates, also inside JSON. The page forbids itself all loads but
``data:`` pictures, and runs no script but its own, which it names by hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessella.images import atomic_file

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from tessella.eval.report.slider import PictureStore

_ASSETS = "assets"
_SCRIPTS = ("table.js", "scales.js", "chart.js", "slider.js")


@dataclass(frozen=True, slots=True)
class Fact:
    """A number at the head of a page.

    Args:
        value: as written.
        title: what it counts.
    """

    value: str
    title: str


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page with a heading.

    Args:
        name: of its anchor: lower-case letters and ``-``.
        title: the heading.
        parts: HTML, one below the other.
        text: a sentence or two below the heading.
        is_folded: shown as one line that opens.
    """

    name: str
    title: str
    parts: Sequence[Markup]
    text: str = ""
    is_folded: bool = False


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("tessella.eval.report", _ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: Any) -> Markup:
    """Fill a template of the package; every value is escaped.

    Args:
        template: its file, such as ``table.html.j2``.
        values: what it names.
    """
    from markupsafe import Markup

    return Markup(_environment().get_template(template).render(**values))  # noqa: S704


def folded_html(title: str, parts: Sequence[Markup]) -> Markup:
    """Return parts behind one line that opens."""
    return render("folded.html.j2", title=title, parts=parts)


def _asset(name: str) -> str:
    return (files("tessella.eval.report") / _ASSETS / name).read_text("utf-8")


def page_html(
    title: str,
    lead: str,
    facts: Sequence[Fact],
    sections: Sequence[Section],
    *,
    missing: Mapping[str, str] | None = None,
    pictures: PictureStore | None = None,
) -> str:
    """Return a whole page; see :func:`write_page`."""
    from markupsafe import Markup

    script = "\n".join(_asset(name) for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    page: str = render(
        "page.html.j2",
        title=title,
        lead=lead,
        facts=facts,
        sections=sections,
        missing=sorted((missing or {}).items()),
        pictures=pictures.uris if pictures is not None else {},
        style=Markup(_asset("report.css")),  # noqa: S704
        script=Markup(script),  # noqa: S704
        script_hash=f"sha256-{digest}",
    )
    return page


def write_page(
    path: str | Path,
    title: str,
    lead: str,
    facts: Sequence[Fact],
    sections: Sequence[Section],
    *,
    missing: Mapping[str, str] | None = None,
    pictures: PictureStore | None = None,
) -> None:
    """Write a page that needs nothing but itself, whole or not at all.

    Args:
        path: of the HTML file.
        title: of the page.
        lead: a sentence below it.
        facts: numbers below that.
        sections: the rest, in order.
        missing: what could not be measured, and why; shown at the head.
        pictures: of the sliders.
    """
    text = page_html(title, lead, facts, sections, missing=missing, pictures=pictures)
    with atomic_file(Path(path)) as stream:
        stream.write(text.encode("utf-8"))


__all__ = ["Fact", "Section", "folded_html", "page_html", "render", "write_page"]
