"""Line charts: drawn as SVG by the page's own script, with their figures as a table below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tessella.errors import ConfigError
from tessella.eval.measures import Better
from tessella.eval.report.parts import render

if TYPE_CHECKING:
    from markupsafe import Markup

Scale = Literal["linear", "log"]
Role = Literal["", "reference", "bound"]


@dataclass(frozen=True, slots=True)
class Point:
    """A point.

    Args:
        x: where; the number of a category where the chart has those.
        y: the value.
        label: beside it; empty for none.
        note: in its tooltip, below the values.
    """

    x: float
    y: float
    label: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """A line.

    Args:
        name: in the legend.
        points: in drawing order.
        color: number of its hue; each ``reference`` number has a grey and dashes of its own.
        shade: 1 for the full hue, less for a paler one.
        role: ``reference`` is drawn in grey dashes, ``bound`` as a thin dotted line of ink.
        has_markers: whether points are marked.
    """

    name: str
    points: Sequence[Point]
    color: int = 0
    shade: float = 1.0
    role: Role = ""
    has_markers: bool = True


@dataclass(frozen=True, slots=True)
class Panel:
    """What a chart shows at a time.

    Args:
        title: in the selector.
        y_label: of the axis.
        series: the lines.
        better: which direction; written beside the axis.
        digits: of values behind the decimal point; None for three significant ones.
        y_scale: of the axis.
        y_range: what the axis covers at least.
    """

    title: str
    y_label: str
    series: Sequence[Series]
    better: Better = ""
    digits: int | None = None
    y_scale: Scale = "linear"
    y_range: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart.

    Args:
        title: above it.
        x_label: of the axis.
        panels: with a selector where there are several.
        caption: below it.
        x_scale: of the axis.
        categories: names of x = 0, 1, ... instead of a scale, each with a second line or ``""``.
    """

    title: str
    x_label: str
    panels: Sequence[Panel]
    caption: str = ""
    x_scale: Scale = "linear"
    categories: Sequence[tuple[str, str]] = ()


def chart_html(chart: Chart) -> Markup:
    """Return a chart.

    Raises:
        ConfigError: if it has no panels, or a point cannot be drawn: values that are not finite,
            or not positive on a logarithmic axis.
    """
    if not chart.panels:
        raise ConfigError(f"chart {chart.title!r} without panels given; expected at least one")
    for panel in chart.panels:
        for series in panel.series:
            for point in series.points:
                _check(chart, panel, series, point)
    return render("chart.html.j2", chart=chart, data=_data(chart))


def _check(chart: Chart, panel: Panel, series: Series, point: Point) -> None:
    for value, scale in ((point.x, chart.x_scale), (point.y, panel.y_scale)):
        if not math.isfinite(value) or (scale == "log" and value <= 0):
            raise ConfigError(
                f"point ({point.x}, {point.y}) of {series.name!r} given; expected finite values, "
                "positive on a logarithmic axis: leave it out"
            )


def _data(chart: Chart) -> dict[str, Any]:
    """Return what the script draws; points as short lists, since there may be many."""
    return {
        "x": {"label": chart.x_label, "scale": chart.x_scale, "categories": chart.categories},
        "panels": [
            {
                "title": panel.title,
                "label": panel.y_label,
                "better": panel.better,
                "digits": panel.digits,
                "scale": panel.y_scale,
                "range": panel.y_range,
                "series": [
                    {
                        "name": series.name,
                        "color": series.color,
                        "shade": series.shade,
                        "role": series.role,
                        "markers": series.has_markers,
                        "points": [[p.x, p.y, p.label, p.note] for p in series.points],
                    }
                    for series in panel.series
                ],
            }
            for panel in chart.panels
        ],
    }


__all__ = ["Chart", "Panel", "Point", "Role", "Scale", "Series", "chart_html"]
