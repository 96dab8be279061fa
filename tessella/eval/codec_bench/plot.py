"""Quality against rate as a picture: a panel a metric, a row a set, classical codecs in grey."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tessella.codecs.classical import classical_codecs
from tessella.errors import ConfigError
from tessella.eval.codec_bench.comparing import plotted, points_of
from tessella.eval.curves import RateCurve, rate_curves
from tessella.eval.results import Results
from tessella.images import atomic_file

_GREYS = ("0.55", "0.3", "0.7", "0.1", "0.45")
_DASHES = ("--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)))
_MARKERS = ("s", "^", "v", "D", "P", "X")
_FORMATS = (".png", ".svg", ".pdf")


def plot(results: Results, path: str | Path) -> None:
    """Draw all curves with a logarithmic rate axis; MS-SSIM in dB.

    Args:
        results: of a bench.
        path: PNG, SVG or PDF by its suffix.

    Raises:
        ConfigError: if the suffix is another one, or there is nothing to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    check_plot(path)
    curves = [curve for curve in rate_curves(results) if plotted(curve.metric).better]
    sets = list(dict.fromkeys(curve.dataset for curve in curves))
    metrics = list(dict.fromkeys(curve.metric for curve in curves))
    if not curves:
        raise ConfigError("no curves to draw; expected a bench with at least one metric")
    names = list(dict.fromkeys(curve.name for curve in curves))
    size = (4.4 * len(metrics), 3.8 * len(sets) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(sets), len(metrics), squeeze=False)
    styles = _styles(curves)
    for curve in curves:
        axes = panels[sets.index(curve.dataset)][metrics.index(curve.metric)]
        points = [(rate, value) for rate, value in points_of(curve) if math.isfinite(value)]
        axes.plot(*zip(*points, strict=True), label=curve.name, **styles[curve.name])
        axes.set(xscale="log", xlabel="bits per pixel", ylabel=plotted(curve.metric).axis)
        axes.set_title(curve.dataset, fontsize="medium")
        axes.grid(alpha=0.3, which="both")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(names), 6))
    with atomic_file(path) as stream:
        figure.savefig(stream, format=path.suffix[1:].lower(), dpi=150)


def check_plot(path: Path) -> None:
    """Check that a picture can be written.

    Raises:
        ConfigError: if its suffix is none of ours.
    """
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"plot {path} given; expected a name that ends in {', '.join(_FORMATS)}")


def _styles(curves: list[RateCurve]) -> dict[str, dict[str, Any]]:
    """Return lines by curve: greys with dashes for classical codecs, colours for others."""
    classical, found = set(classical_codecs()), {}
    codecs = dict.fromkeys((curve.name, curve.codec) for curve in curves)
    greys = others = 0
    for name, codec in codecs:
        if codec in classical:
            found[name] = {
                "color": _GREYS[greys % len(_GREYS)],
                "linestyle": _DASHES[greys % len(_DASHES)],
                "marker": _MARKERS[greys % len(_MARKERS)],
                "markersize": 4,
            }
            greys += 1
        else:
            found[name] = {"color": f"C{others}", "marker": "o", "markersize": 5, "zorder": 3}
            others += 1
    return found


__all__ = ["check_plot", "plot"]
